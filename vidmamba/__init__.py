"""Long-video understanding with stacked Mamba blocks over a frozen vision backbone.

Shape letters, the same in every file:

    B  videos in a batch        D  model width
    T  frames (padded)          E  inner width of a mixer
    C  classes                  N  state size per inner channel
    H, W  pixels of a frame     K  size of a convolution
"""

__version__ = "0.1.0"
