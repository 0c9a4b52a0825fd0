"""CORPORA -> TRAINING DATA: a corpus' records in, a prepared folder and its shards out.

    record -> source.read      picture and sound of a stretch, or why there is none
           -> scenes.cut       where the picture changes to another
           -> people.tracks    the faces of a scene, each one through it
           -> voice.speech     when somebody speaks
           -> spans.cut        stretches of 2 to 10 s, cut in pauses
           -> speaker.choose   whose mouth the sound fits, and by how much it is early or late
           -> crop.path        a window around the head that does not shake
           -> quality.judge    whether picture and sound are good enough
           -> words.place      what is said, and when; the caption
           -> store.write      frames, waveform, thumbnail; the outcome last

A stage is a plain function; what a clip is left out for is a `Dropped`. `clip.py` puts them
together for one record, engines.py runs that for many, run.py goes on where a run was stopped, and
shards.py packs what was kept.

It is a room of its own, not a part of datasets/: corpora are a dozen files that know a layout each
and no pictures, stages are as many that know pictures and no layout, and neither imports the
other's neighbours.
"""
