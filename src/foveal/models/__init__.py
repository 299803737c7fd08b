"""Networks: ResNets of two kinds, VGG-16, timm's; each takes uint8 pictures and normalises them itself."""
