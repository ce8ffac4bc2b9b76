"""Operations on tensors: functions that take tensors, arrays or numbers and return tensors."""

from .activation import *  # noqa: F401,F403
from .attention import *  # noqa: F401,F403
from .bidirectional import *  # noqa: F401,F403
from .convolution import *  # noqa: F401,F403
from .creation import *  # noqa: F401,F403
from .depthwise import *  # noqa: F401,F403
from .einsum import *  # noqa: F401,F403
from .elementwise import *  # noqa: F401,F403
from .embedded_lstm import *  # noqa: F401,F403
from .gru import *  # noqa: F401,F403
from .indexing import *  # noqa: F401,F403
from .joining import *  # noqa: F401,F403
from .linear import *  # noqa: F401,F403
from .loss import *  # noqa: F401,F403
from .lstm import *  # noqa: F401,F403
from .math import *  # noqa: F401,F403
from .metric import *  # noqa: F401,F403
from .normalization import *  # noqa: F401,F403
from .optimizer import *  # noqa: F401,F403
from .pair_loss import *  # noqa: F401,F403
from .pooled_convolution import *  # noqa: F401,F403
from .pooling import *  # noqa: F401,F403
from .random import *  # noqa: F401,F403
from .reduction import *  # noqa: F401,F403
from .shape import *  # noqa: F401,F403
from .simple_rnn import *  # noqa: F401,F403
from .softmax import *  # noqa: F401,F403
from .tensordot import *  # noqa: F401,F403

from . import operators  # noqa: E402,F401
