"""What a backbone sees in a picture: attention, masks, colours of patches, and drawings of them.

    grid       how the patches of a network lie on a picture, and back to its pixels
    attention  what a token looks at, per head and layer; rollout through all layers
    masks      the patches that hold most of the attention; contours and areas
    patches    principal components of patch features; the subject told from its ground
    palette    all that turns features into colours, kept in a file
    matches    which patches are alike, within and across pictures
    drawing    maps and masks as pictures
    links      marked places, and lines between two pictures
    files      the files of each picture and where they come from
    look       attention and masks of a list of files; look_patches and look_matches for patches:
               what the command line calls
    probes     the looks a training run keeps of a few pictures

torch ends in ``attention``, ``patch_features`` and ``probes``; everything after them is NumPy arrays, height before
width. Pictures are uint8 RGB. Nothing here knows of projects, messages or windows.
"""
