"""Layers, with the names and arguments of Keras 3."""

from .activation import *  # noqa: F401,F403
from .attention import *  # noqa: F401,F403
from .convolution import *  # noqa: F401,F403
from .core import *  # noqa: F401,F403
from .einsum import *  # noqa: F401,F403
from .embedding import *  # noqa: F401,F403
from .layer import Layer  # noqa: F401
from .merging import *  # noqa: F401,F403
from .normalization import *  # noqa: F401,F403
from .pooling import *  # noqa: F401,F403
from .regularization import *  # noqa: F401,F403
from .recurrent import *  # noqa: F401,F403
from .cells import *  # noqa: F401,F403
from .bidirectional import *  # noqa: F401,F403
from .time_distributed import *  # noqa: F401,F403
from .serialization import deserialize, serialize  # noqa: F401
