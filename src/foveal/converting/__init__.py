"""Turning labelled pictures of one form into another, RecordIO above all."""
