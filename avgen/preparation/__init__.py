"""RECORDS -> LATENTS: a corpus' records in, a prepared folder out.

    record -> source.find      which part of which file, or why it cannot be used
           -> record           whole, with its head cropped or not; a voice alone, cut in pauses; or
           -> talking          scenes.cut       where the picture changes to another
                               people.find      the faces of a scene, each one through it
                               voice.speech     when somebody speaks
                               spans.cut        stretches of 2 to 10 s, cut in pauses
                               speaker.choose   whose mouth the sound fits, and how early it is
                               crop.path        a window around the head that does not shake
                               quality.picture  whether picture and sound are good enough
           -> collect          words, caption; frames, waveform, thumbnail on disk; the outcome last
    all    -> finish.complete  manifest, summary, report
           -> encode           latents of both codecs, and their statistics

A stage is a function; it raises `Dropped` to leave a clip out. engines.py runs many records, run.py
goes on where a run was stopped, store.py and latent_store.py write and read the folder.
"""
