"The encoders, their heads, and the functions that put the two together"

from textnb.models.layers import *
from textnb.models.awd_lstm import *
from textnb.models.qrnn import *
from textnb.models.transformer import *
from textnb.models.transformer_xl import *
from textnb.models.build import *
