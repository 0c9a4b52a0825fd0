"""Portraits and voices in, clips of people who speak out.

    faces       a picture        -> its landmarks and pose, or why it cannot be used
    articulation  phonemes, sound -> weights of the mouth's expressions in every frame
    gestures    sound            -> blinks, gaze, brows and the sway of the head
    deformation weights          -> where every landmark is, lips and lids that close wholly
    animation   landmarks        -> frames: the picture warped, the inside of the mouth painted
    captions    attributes       -> how the clip looks and sounds, in words
    heads       all of these     -> a clip, its record and its tracks

Nobody is filmed: a still picture is all that is seen of a person, so who has the right to a picture
decides about the clips.
"""
