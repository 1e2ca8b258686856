"""Frames and their true timestamps out of video files; the only door to decord and PyAV.

reader.py chooses and recovers, index.py knows every frame, one file a decoder, writer.py encodes.
"""
