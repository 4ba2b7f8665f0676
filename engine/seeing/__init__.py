"""What a backbone sees in a picture: attention, masks, colours of patches, and drawings of them.

    grid       how the patches of a network lie on a picture, and back to its pixels
    attention  what a token looks at, per head and layer; rollout through all layers
    masks      the patches that hold most of the attention; contours and areas
    patches    principal components of patch features as colours
    drawing    maps and masks as pictures
    look       all of it for a list of files: what the command line calls
    probes     the looks a training run keeps of a few pictures

torch ends in ``attention`` and ``probes``; everything after them is NumPy arrays, height before
width. Pictures are uint8 RGB. Nothing here knows of projects, messages or windows.
"""
