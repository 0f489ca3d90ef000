"""The operations of tile programs and of threads, as their modules export them."""

from tilus.ir.ops.arith import *
from tilus.ir.ops.control import *
from tilus.ir.ops.groups import *
from tilus.ir.ops.memory import *
from tilus.ir.ops.parts import *
from tilus.ir.ops.reduction import *
from tilus.ir.ops.shape import *
from tilus.ir.ops.sync import *
from tilus.ir.ops.thread import *
