"""Saying what is wrong with labelled pictures before anything is trained on them."""
