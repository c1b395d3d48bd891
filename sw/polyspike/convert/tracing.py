"""Tracing: from a `torch.nn.Module` to the float network of `graph.py`, refusing by name what cannot be converted.

The module is traced by torch.fx and its graph interpreted on symbolic values. A value is either *spikes* (the counts
of an emitted node will stand for it) or a *linear expression*: a sum of terms over spikes plus a bias. Convolutions,
batch norm, average pooling and additions build expressions, a ReLU turns one into a layer, so a residual join is one
layer with two terms. An expression that something linear reads, or that several readers share, becomes a layer of
signed neurons.
"""

import copy
import dataclasses
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import torch
import torch.fx
import torch.nn.functional as F
from torch import Tensor, nn

from polyspike.spec import ConversionError

from .graph import FloatInput, FloatLayer, FloatMaxPool, FloatNetwork, FloatNode, Pair, Role, Shape, Term

#: What `trace` accepts, as error messages and the documentation list it.
CONVERTIBLE = (
    "Conv2d (any stride, zero padding, groups; dilation 1)",
    "Linear",
    "BatchNorm1d, BatchNorm2d",
    "ReLU, ReLU6, Hardtanh from 0",
    "AvgPool2d, MaxPool2d, AdaptiveAvgPool2d (where it divides), mean over height and width",
    "Flatten, view and reshape to [batch, features]",
    "Dropout, Identity",
    "addition of two branches",
    "the shortcut x[:, :, ::s, ::s] with zero channels added by F.pad",
)

_BATCH = 2
_ACCESSORS = {"size", "dim"}


@dataclasses.dataclass(frozen=True, eq=False)
class _Spikes:
    """The activations of an emitted node. `flat` means that torch sees them as [batch, features]."""

    source: str
    shape: Shape
    flat: bool
    nonnegative: bool


@dataclasses.dataclass(frozen=True, eq=False)
class _Linear:
    """A sum of terms and a bias, not emitted yet. `name` is what its layer will be called."""

    name: str
    shape: Shape
    flat: bool
    terms: tuple[Term, ...]
    bias: Tensor

    @property
    def pooling(self) -> bool:
        """Whether it is a sum over windows, or a copy, of one source, times one constant: exact on counts."""
        if len(self.terms) != 1 or not self.terms[0].fixed or bool(self.bias.any()):
            return False
        rows = self.terms[0].weight.flatten(1)
        values = rows[rows != 0]
        return bool((values > 0).all() and (values == values[0]).all() and ((rows != 0).sum(1) <= 1).all())


_Value = _Spikes | _Linear


def trace(model: nn.Module, shape: Sequence[int]) -> FloatNetwork:
    """Turn a module into a float network.

    Parameters
    ----------
    model
        A module that torch.fx can trace. It is copied, put into evaluation mode, and not changed.
    shape
        The shape of one input: (channels, height, width), or (features,).

    Raises
    ------
    ConversionError
        The module cannot be traced, or has a part that cannot be converted: the message names the part and its type,
        says why, and lists what can be converted.
    """
    model = copy.deepcopy(model).eval().requires_grad_(False)
    try:
        graph = torch.fx.Tracer().trace(model)
    except Exception as error:
        suspects = [
            f"module {name or '(the model itself)'!r} ({type(module).__name__})"
            for name, module in model.named_modules()
            if type(module).__module__.startswith("torch.nn")
            and not isinstance(module, (nn.Sequential, nn.ModuleList, nn.ModuleDict, *_Interpreter.MODULES))
        ]
        if suspects:
            raise ConversionError(_message(", ".join(suspects), "there is no integer form of it")) from error
        raise ConversionError(
            f"torch.fx cannot trace {type(model).__name__}: {error}. "
            "Its forward must not depend on the values of tensors"
        ) from error
    return _Interpreter(model, graph, shape).run()


def _message(where: str, reason: str) -> str:
    return f"{where} cannot be converted: {reason}. What can be converted: {'; '.join(CONVERTIBLE)}"


def _pair(value: int | Sequence[int]) -> Pair:
    if isinstance(value, int):
        return value, value
    values = tuple(int(v) for v in value)
    return (values[0], values[0]) if len(values) == 1 else (values[0], values[1])


class _Interpreter:
    """Runs an fx graph on symbolic values and collects the nodes it emits."""

    MODULES = (
        nn.Conv2d,
        nn.Linear,
        nn.BatchNorm1d,
        nn.BatchNorm2d,
        nn.ReLU,
        nn.ReLU6,
        nn.Hardtanh,
        nn.AvgPool2d,
        nn.MaxPool2d,
        nn.AdaptiveAvgPool2d,
        nn.Flatten,
        nn.Dropout,
        nn.Dropout1d,
        nn.Dropout2d,
        nn.Identity,
    )

    def __init__(self, model: nn.Module, graph: torch.fx.Graph, shape: Sequence[int]):
        self.model = model
        self.graph = graph
        image = tuple(int(size) for size in shape)
        if len(image) not in (1, 3):
            raise ConversionError(f"an input of shape {image} cannot be converted; (channels, height, width) can")
        self.flat_input = len(image) == 1
        self.image: Shape = (image[0], 1, 1) if len(image) == 1 else (image[0], image[1], image[2])
        self.nodes: list[FloatNode] = []
        self.env: dict[torch.fx.Node, Any] = {}
        self.node: torch.fx.Node = next(iter(graph.nodes))
        self.functions: dict[Any, Callable[..., Any]] = {
            F.conv2d: self.conv2d,
            torch.conv2d: self.conv2d,
            F.linear: self.linear,
            F.relu: self.relu,
            torch.relu: self.relu,
            torch.relu_: self.relu,
            F.relu6: self.relu6,
            F.hardtanh: self.hardtanh,
            F.avg_pool2d: self.avg_pool2d,
            F.max_pool2d: self.max_pool2d,
            torch.max_pool2d: self.max_pool2d,
            F.adaptive_avg_pool2d: self.adaptive_avg_pool2d,
            F.dropout: self.identity,
            F.dropout2d: self.identity,
            F.pad: self.pad,
            torch.flatten: self.flatten,
            torch.reshape: self.reshape,
            torch.mean: self.mean,
            torch.add: self.add,
            operator.add: self.add,
            operator.iadd: self.add,
            operator.getitem: self.getitem,
        }
        self.methods: dict[str, Callable[..., Any]] = {
            "relu": self.relu,
            "relu_": self.relu,
            "add": self.add,
            "add_": self.add,
            "flatten": self.flatten,
            "view": self.reshape,
            "reshape": self.reshape,
            "mean": self.mean,
            "contiguous": self.identity,
            "size": self.size,
            "dim": self.dim,
        }

    # The walk

    def run(self) -> FloatNetwork:
        """Interpret every node of the graph."""
        for node in self.graph.nodes:
            self.node = node
            args, kwargs = torch.fx.node.map_arg((node.args, node.kwargs), lambda n: self.env[n])
            if node.op == "output":
                return self.finish(args[0])
            value = self.evaluate(node, args, kwargs)
            if isinstance(value, _Linear) and self.readers(node) > 1:
                value = self.spikes(value)
            self.env[node] = value
            if self.in_place(node) and isinstance(node.args[0], torch.fx.Node):
                self.env[node.args[0]] = value
        raise AssertionError("an fx graph always ends with its output")

    def evaluate(self, node: torch.fx.Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return the value of one node."""
        if node.op == "placeholder":
            return self.placeholder(node)
        if node.op == "get_attr":
            return operator.attrgetter(str(node.target))(self.model)
        if node.op == "call_module":
            return self.call_module(self.model.get_submodule(str(node.target)), args, kwargs)
        found: list[_Value] = []
        torch.fx.node.map_aggregate((args, kwargs), lambda a: found.append(a) if isinstance(a, _Value) else None)
        if not found:
            if node.op == "call_function":
                return node.target(*args, **kwargs)  # type: ignore[operator]  # a call on numbers
            return getattr(args[0], str(node.target))(*args[1:], **kwargs)
        if node.op == "call_function" and node.target is getattr:
            if args[1] != "shape":
                self.refuse(f"attribute {args[1]!r} of a tensor is not known before it runs")
            return self.torch_shape(args[0])
        handlers: dict[Any, Callable[..., Any]] = {**self.functions, **self.methods}
        handler = handlers.get(node.target)
        if handler is None:
            self.refuse("there is no integer form of it")
        return self.call(handler, args, kwargs)

    def call(self, handler: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call a handler, which has the signature of the function it stands for."""
        try:
            return handler(*args, **kwargs)
        except (TypeError, AttributeError) as error:
            if error.__traceback__ is not None and error.__traceback__.tb_next is None:
                self.refuse(f"its arguments are not among those that can be converted ({error})")
            raise

    def placeholder(self, node: torch.fx.Node) -> Any:
        """Return the input, or an argument's default."""
        if self.nodes:
            if node.args:
                return node.args[0]
            self.refuse("the network has more than one input")
        self.nodes.append(FloatInput("input", self.image, self.image))
        # The input's counts may be negative, so a ReLU on it is not taken for void.
        return _Spikes("input", self.image, self.flat_input, nonnegative=False)

    def call_module(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return the value of a module's call."""
        if len(args) != 1 or kwargs or not isinstance(args[0], _Value):
            self.refuse("it is not called with one tensor")
        x = args[0]
        match module:
            case nn.Conv2d():
                if module.padding_mode != "zeros":
                    self.refuse(f"padding mode {module.padding_mode!r}; only zeros can be padded exactly")
                return self.conv2d(
                    x, module.weight, module.bias, module.stride, module.padding, module.dilation, module.groups
                )
            case nn.Linear():
                return self.linear(x, module.weight, module.bias)
            case nn.BatchNorm2d() | nn.BatchNorm1d():
                return self.batch_norm(x, module)
            case nn.ReLU():
                return self.relu(x)
            case nn.Hardtanh():  # and ReLU6, which is one
                return self.hardtanh(x, module.min_val, module.max_val)
            case nn.AvgPool2d():
                return self.avg_pool2d(
                    x,
                    module.kernel_size,
                    module.stride,
                    module.padding,
                    module.ceil_mode,
                    module.count_include_pad,
                    module.divisor_override,
                )
            case nn.MaxPool2d():
                return self.max_pool2d(
                    x,
                    module.kernel_size,
                    module.stride,
                    module.padding,
                    module.dilation,
                    module.ceil_mode,
                    module.return_indices,
                )
            case nn.AdaptiveAvgPool2d():
                return self.adaptive_avg_pool2d(x, module.output_size)
            case nn.Flatten():
                return self.flatten(x, module.start_dim, module.end_dim)
            case nn.Dropout() | nn.Dropout1d() | nn.Dropout2d() | nn.Identity():
                return x
            case _:
                return self.refuse("there is no integer form of it")

    def finish(self, result: Any) -> FloatNetwork:
        """Emit the output layer."""
        if not isinstance(result, _Value):
            raise ConversionError(_message("the network's result", "it is not one tensor"))
        value = self.linear_form(result)
        if len(value.terms) == 1 and value.terms[0].source == "input" and value.terms[0].fixed:
            raise ConversionError("the network has no layer with weights, so there is nothing to convert")
        self.emit(value, Role.OUTPUT)
        return FloatNetwork(tuple(self.nodes))

    # What nodes say about themselves

    @property
    def where(self) -> str:
        """Name the node in the user's words."""
        if self.node.op == "call_module":
            path = str(self.node.target)
            return f"module {path!r} ({type(self.model.get_submodule(path)).__name__})"
        if self.node.op == "placeholder":
            return f"input {self.node.name!r}"
        name = self.node.target if isinstance(self.node.target, str) else _function_name(self.node.target)
        path = self.enclosing
        inside = (
            f"module {path!r} ({type(self.model.get_submodule(path)).__name__})" if path else type(self.model).__name__
        )
        kind = "method" if self.node.op == "call_method" else "function"
        return f"{kind} {name!r} (in {inside})"

    @property
    def enclosing(self) -> str:
        """Path of the module whose forward made the node."""
        stack = self.node.meta.get("nn_module_stack") or {}
        return str(list(stack.values())[-1][0]) if stack else ""

    def refuse(self, reason: str) -> NoReturn:
        """Raise the error for the current node."""
        raise ConversionError(_message(self.where, reason))

    def readers(self, node: torch.fx.Node) -> int:
        """Count the users that read a node's values, not just its shape."""
        return sum(
            1
            for user in node.users
            if not (user.op == "call_method" and user.target in _ACCESSORS)
            and not (user.op == "call_function" and user.target is getattr)
        )

    def in_place(self, node: torch.fx.Node) -> bool:
        """Whether the node overwrites its first argument."""
        if node.op == "call_module":
            return bool(getattr(self.model.get_submodule(str(node.target)), "inplace", False))
        if node.op == "call_method":
            return str(node.target).endswith("_")
        return node.target in (operator.iadd, torch.relu_) or bool(node.kwargs.get("inplace", False))

    @property
    def label(self) -> str:
        """The layer name the current node suggests."""
        if self.node.op == "call_module":
            return str(self.node.target)
        return f"{self.enclosing}.{self.node.name}" if self.enclosing else self.node.name

    def torch_shape(self, x: _Value) -> torch.Size:
        """Return the shape that torch would give the value, at the batch size that tracing uses."""
        return torch.Size((_BATCH, math.prod(x.shape)) if x.flat else (_BATCH, *x.shape))

    # From values to nodes

    def emit(self, value: _Linear, role: Role, limit: float | None = None) -> str:
        """Emit a layer and return its name."""
        name = self.unique(value.name)
        # Terms with weights first: the first one gets the finest weights.
        terms = tuple(sorted(value.terms, key=lambda term: term.fixed))
        self.nodes.append(FloatLayer(name, value.shape, terms, value.bias, role, limit))
        return name

    def spikes(self, value: _Value) -> _Spikes:
        """Return the value as spikes, emitting a layer when it is an expression."""
        if isinstance(value, _Spikes):
            return value
        role = Role.POOL if value.pooling else Role.SIGNED
        name = self.emit(value, role)
        return _Spikes(name, value.shape, value.flat, nonnegative=False)

    def linear_form(self, value: _Value) -> _Linear:
        """Return the value as an expression; spikes are copied by an identity."""
        if isinstance(value, _Linear):
            return value
        channels = value.shape[0]
        term = Term(value.source, torch.ones(channels, 1, 1, 1), (1, 1), groups=channels, fixed=True)
        return _Linear(self.label, value.shape, value.flat, (term,), torch.zeros(channels))

    def result(self, terms: tuple[Term, ...], bias: Tensor, size: Pair, flat: bool = False) -> _Linear:
        """Build the expression that the current node computes."""
        return _Linear(self.label, (len(bias), *size), flat, terms, bias)

    def map_of(self, x: _Value) -> _Spikes:
        """Return spikes that are a map [batch, channels, height, width]."""
        if x.flat:
            self.refuse(f"it needs a map [batch, channels, height, width], but gets {list(self.torch_shape(x)[1:])}")
        return self.spikes(x)

    # Operations. Their parameters are those of the torch functions.

    def identity(self, x: _Value, *_: Any, **__: Any) -> _Value:
        """Dropout, contiguous."""
        return x

    def size(self, x: _Value, dim: int | None = None) -> Any:
        """Return the shape, or one axis of it."""
        shape = self.torch_shape(x)
        return shape if dim is None else shape[dim]

    def dim(self, x: _Value) -> int:
        """Return the number of axes."""
        return len(self.torch_shape(x))

    def conv2d(
        self,
        x: _Value,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: int | Sequence[int] = 1,
        padding: int | str | Sequence[int] = 0,
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
    ) -> _Linear:
        """Convolution."""
        if _pair(dilation) != (1, 1):
            self.refuse(f"dilation is {_pair(dilation)}, but must be 1")
        kernel: Pair = (weight.shape[2], weight.shape[3])
        if padding == "valid":
            padding = 0
        elif padding == "same":
            if kernel[0] % 2 == 0 or kernel[1] % 2 == 0:
                self.refuse(f"padding 'same' of an even kernel {kernel} is not symmetric")
            padding = (kernel[0] // 2, kernel[1] // 2)
        elif isinstance(padding, str):
            self.refuse(f"padding {padding!r}")
        source = self.map_of(x)
        if source.shape[0] != weight.shape[1] * groups:
            self.refuse(f"it takes {weight.shape[1] * groups} channels, but gets {source.shape[0]}")
        term = Term(source.source, weight.detach().float(), kernel, _pair(stride), _pair(padding), groups)
        return self.result((term,), self.bias(bias, weight), self.output_size(source, term))

    def linear(self, x: _Value, weight: Tensor, bias: Tensor | None = None) -> _Linear:
        """Linear map of a vector: of the whole map, where that was flattened before."""
        if not x.flat:
            self.refuse(f"it is applied to the last axis of {list(self.torch_shape(x)[1:])}; flatten the map before it")
        if math.prod(x.shape) != weight.shape[1]:
            self.refuse(f"it takes {weight.shape[1]} features, but gets {math.prod(x.shape)}")
        weight = weight.detach().float()
        rows = weight.view(len(weight), *x.shape)
        if isinstance(x, _Linear) and x.pooling and x.terms[0].depthwise:
            term = self.linear_after_pooling(rows, x)
        else:
            source = self.spikes(x)
            term = Term(source.source, rows, (source.shape[1], source.shape[2]))
        return self.result((term,), self.bias(bias, weight), (1, 1), flat=True)

    def linear_after_pooling(self, rows: Tensor, x: _Linear) -> Term:
        """Fold pooling into the linear map behind it, exactly: shared weights for one window, else replicated ones."""
        pool = x.terms[0]
        scale = float(pool.weight.flatten()[0])
        if x.shape[1:] == (1, 1) and pool.padding == (0, 0):
            return Term(pool.source, rows * scale, pool.window, pool.stride)
        height, width = self.shape_of(pool.source)[1:]
        (kh, kw), (sy, sx), (py, px) = pool.window, pool.stride, pool.padding
        spread = rows.new_zeros(*rows.shape[:2], height + 2 * py + sy, width + 2 * px + sx)
        for y in range(x.shape[1]):
            for column in range(x.shape[2]):
                window = spread[:, :, y * sy : y * sy + kh, column * sx : column * sx + kw]
                window += rows[:, :, y : y + 1, column : column + 1] * scale
        return Term(pool.source, spread[:, :, py : py + height, px : px + width].contiguous(), (height, width))

    def batch_norm(self, x: _Value, module: nn.BatchNorm1d | nn.BatchNorm2d) -> _Linear:
        """Fold batch norm into the expression before it; on spikes it is a depthwise 1 x 1 convolution."""
        mean, variance = module.running_mean, module.running_var
        if mean is None or variance is None:
            self.refuse(
                "it keeps no running statistics (track_running_stats=False), so its output depends on the batch"
            )
        if x.flat and x.shape[1:] != (1, 1):
            self.refuse("it normalizes the features of a flattened map; put it before flattening")
        if len(mean) != x.shape[0]:
            self.refuse(f"it takes {len(mean)} channels, but gets {x.shape[0]}")
        gain = 1 / torch.sqrt(variance.double() + module.eps)
        if module.weight is not None:
            gain = gain * module.weight.double()
        offset = -mean.double() * gain
        if module.bias is not None:
            offset = offset + module.bias.double()
        expression = self.linear_form(x)
        terms = tuple(
            dataclasses.replace(term, weight=(term.weight.double() * gain.view(-1, 1, 1, 1)).float(), fixed=False)
            for term in expression.terms
        )
        bias = (expression.bias.double() * gain + offset).float()
        return dataclasses.replace(expression, terms=terms, bias=bias)

    def relu(self, x: _Value, inplace: bool = False, limit: float | None = None) -> _Value:
        """Rectify: the expression becomes a layer."""
        if x_is_nonnegative(x) and limit is None:
            return x
        value = self.linear_form(x)
        return _Spikes(self.emit(value, Role.RELU, limit), x.shape, x.flat, nonnegative=True)

    def relu6(self, x: _Value, inplace: bool = False) -> _Value:
        """ReLU that saturates at 6."""
        return self.relu(x, limit=6.0)

    def hardtanh(self, x: _Value, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> _Value:
        """ReLU that saturates."""
        if min_val != 0 or max_val <= 0:
            self.refuse(f"it clips to {min_val} .. {max_val}; only a lower limit of 0 is a spiking neuron's")
        return self.relu(x, limit=float(max_val))

    def avg_pool2d(
        self,
        x: _Value,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] | None = None,
        padding: int | Sequence[int] = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> _Linear:
        """Average pooling: a depthwise sum over windows."""
        window = _pair(kernel_size)
        source = self.map_of(x)
        term = Term(
            source.source,
            torch.full((source.shape[0], 1, 1, 1), 1 / (divisor_override or window[0] * window[1])),
            window,
            _pair(stride) if stride else window,
            _pair(padding),
            source.shape[0],
            fixed=True,
        )
        if term.padding != (0, 0) and not count_include_pad:
            self.refuse("with count_include_pad=False the borders have another divisor; use count_include_pad=True")
        self.check_ceil_mode(source, term.window, term.stride, term.padding, ceil_mode)
        return self.result((term,), torch.zeros(source.shape[0]), self.output_size(source, term))

    def adaptive_avg_pool2d(self, x: _Value, output_size: int | Sequence[int | None] | None) -> _Value:
        """Average pooling to a given size, where that divides the map."""
        sizes = (
            (output_size, output_size) if isinstance(output_size, int) or output_size is None else tuple(output_size)
        )
        height, width = (x.shape[1 + axis] if size is None else size for axis, size in enumerate(sizes))
        if x.shape[1] % height or x.shape[2] % width:
            self.refuse(f"{x.shape[1:]} pixels do not divide into {height} x {width} equal windows")
        return self.avg_pool2d(x, (x.shape[1] // height, x.shape[2] // width))

    def mean(self, x: _Value, dim: Any = None, keepdim: bool = False) -> _Value:
        """Mean over height and width."""
        dims = sorted(d % 4 for d in ([dim] if isinstance(dim, int) else dim or []))
        if x.flat or dims != [2, 3]:
            self.refuse(f"a mean over axes {dim}; only that over height and width, (2, 3), can be converted")
        pooled = self.avg_pool2d(x, x.shape[1:])
        return pooled if keepdim else dataclasses.replace(pooled, flat=True)

    def max_pool2d(
        self,
        x: _Value,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] | None = None,
        padding: int | Sequence[int] = 0,
        dilation: int | Sequence[int] = 1,
        ceil_mode: bool = False,
        return_indices: bool = False,
    ) -> _Spikes:
        """Max pooling. A ReLU behind it is drawn before it, which gives the same and keeps the counts unsigned."""
        if _pair(dilation) != (1, 1):
            self.refuse(f"dilation is {_pair(dilation)}, but must be 1")
        if return_indices:
            self.refuse("it returns indices")
        window, padded = _pair(kernel_size), _pair(padding)
        steps = _pair(stride) if stride else window
        if isinstance(x, _Linear) and self.only_relu_follows():
            x = self.relu(x)
        source = self.map_of(x)
        self.check_ceil_mode(source, window, steps, padded, ceil_mode)
        channels, height, width = source.shape
        shape = (
            channels,
            (height + 2 * padded[0] - window[0]) // steps[0] + 1,
            (width + 2 * padded[1] - window[1]) // steps[1] + 1,
        )
        name = self.unique(self.label)
        self.nodes.append(FloatMaxPool(name, shape, source.source, window, steps, padded))
        return _Spikes(name, shape, False, source.nonnegative)

    def flatten(self, x: _Value, start_dim: int = 0, end_dim: int = -1) -> _Value:
        """Flatten to [batch, features]."""
        axes = len(self.torch_shape(x))
        if start_dim % axes != 1 or end_dim % axes != axes - 1:
            self.refuse(f"it flattens axes {start_dim} to {end_dim}; only 1 to the last keeps the batch apart")
        return self.flattened(x)

    def reshape(self, x: _Value, *shape: Any) -> _Value:
        """View and reshape, where the result is [batch, features] or unchanged."""
        if len(shape) == 1 and not isinstance(shape[0], int):
            shape = tuple(shape[0])
        before = self.torch_shape(x)
        try:
            after = tuple(torch.empty(before, device="meta").reshape(shape).shape)
        except RuntimeError as error:
            self.refuse(f"{list(before[1:])} does not reshape to {list(shape)} ({error})")
        if after == tuple(before):
            return x
        if after == (_BATCH, math.prod(x.shape)):
            return self.flattened(x)
        if after != (_BATCH, *x.shape):
            self.refuse(f"it reshapes {list(before[1:])} to {list(after[1:])}; only [batch, features] can be converted")
        return dataclasses.replace(x, flat=False)

    def flattened(self, x: _Value) -> _Value:
        """Return the value as a vector. A network that flattens its input at once gets a vector as input."""
        if isinstance(x, _Spikes) and x.source == "input" and len(self.nodes) == 1 and self.sole_reader_of_input():
            shape = (math.prod(x.shape), 1, 1)
            self.nodes[0] = FloatInput("input", shape, self.image)
            return _Spikes("input", shape, True, x.nonnegative)
        return dataclasses.replace(x, flat=True)

    def add(self, x: Any, other: Any, *, alpha: float = 1) -> _Linear:
        """Join two branches in one membrane."""
        if not isinstance(x, _Value) or not isinstance(other, _Value):
            self.refuse("it adds a constant; only two branches of the network can be added")
        if alpha != 1:
            self.refuse(f"it adds with alpha = {alpha}, but must with 1")
        if x.shape != other.shape or x.flat != other.flat:
            self.refuse(f"it adds {list(self.torch_shape(x)[1:])} and {list(self.torch_shape(other)[1:])}")
        first, second = self.linear_form(x), self.linear_form(other)
        trained = [value for value in (first, second) if not all(term.fixed for term in value.terms)]
        name = trained[0].name if trained else self.label
        return _Linear(name, x.shape, x.flat, first.terms + second.terms, first.bias + second.bias)

    def getitem(self, x: Any, index: Any) -> Any:
        """Index a shape, or take every s-th pixel of a map."""
        if not isinstance(x, _Value):
            return x[index]
        if not isinstance(index, tuple) or len(index) != 4 or not all(isinstance(i, slice) for i in index):
            self.refuse("of indexing, only x[:, :, ::s, ::s] can be converted")
        source = self.map_of(x)
        for axis, part in enumerate(index):
            size = (_BATCH, *source.shape)[axis]
            start, stop, step = part.indices(size)
            if start != 0 or stop != size or step < 1 or (axis < 2 and step != 1):
                self.refuse("of indexing, only x[:, :, ::s, ::s] can be converted")
        channels = source.shape[0]
        stride = _pair((index[2].step or 1, index[3].step or 1))
        term = Term(source.source, torch.ones(channels, 1, 1, 1), (1, 1), stride, groups=channels, fixed=True)
        return self.result((term,), torch.zeros(channels), self.output_size(source, term))

    def pad(self, x: _Value, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> _Value:
        """Add zero channels."""
        amounts = [int(p) for p in pad]
        front, back = [*amounts[4:6], 0, 0][:2]
        if mode != "constant" or value not in (None, 0, 0.0) or any(amounts[:4]) or any(amounts[6:]) or x.flat:
            self.refuse("of padding, only zero channels (0, 0, 0, 0, before, after) can be converted")
        if front < 0 or back < 0:
            self.refuse("it removes channels")
        expression = self.linear_form(x)
        terms = tuple(
            dataclasses.replace(term, weight=F.pad(_dense(term), (0, 0, 0, 0, 0, 0, front, back)), groups=1)
            for term in expression.terms
        )
        return self.result(terms, F.pad(expression.bias, (front, back)), x.shape[1:])

    # Small helpers

    def bias(self, bias: Tensor | None, weight: Tensor) -> Tensor:
        """Return the bias, or zeros."""
        return torch.zeros(len(weight)) if bias is None else bias.detach().float()

    def unique(self, name: str) -> str:
        """Return the name, or that with a number, if it is taken."""
        taken = {node.name for node in self.nodes}
        candidate, number = name, 2
        while candidate in taken:
            candidate, number = f"{name}_{number}", number + 1
        return candidate

    def shape_of(self, name: str) -> Shape:
        """Return the shape of an emitted node."""
        return next(node.shape for node in self.nodes if node.name == name)

    def output_size(self, source: _Spikes, term: Term) -> Pair:
        """Return (height, width) of a term's result."""
        height, width = (
            (size + 2 * pad - kernel) // step + 1
            for size, pad, kernel, step in zip(source.shape[1:], term.padding, term.window, term.stride, strict=True)
        )
        if height < 1 or width < 1:
            self.refuse(f"its window {term.window} is larger than the map {source.shape[1:]}")
        return height, width

    def check_ceil_mode(self, source: _Spikes, window: Pair, stride: Pair, padding: Pair, ceil_mode: bool) -> None:
        """Refuse ceil_mode where it makes a difference."""
        for size, kernel, step, pad in zip(source.shape[1:], window, stride, padding, strict=True):
            if ceil_mode and (size + 2 * pad - kernel) % step:
                self.refuse(f"with ceil_mode the last window hangs over the border of the {source.shape[1:]} map")

    def only_relu_follows(self) -> bool:
        """Whether a ReLU is the only reader of the current node."""
        users = list(self.node.users)
        if len(users) != 1:
            return False
        user = users[0]
        if user.op == "call_module":
            return isinstance(self.model.get_submodule(str(user.target)), nn.ReLU)
        return user.target in (F.relu, torch.relu, torch.relu_, "relu", "relu_")

    def sole_reader_of_input(self) -> bool:
        """Whether nothing but the current node reads the input, dropout and the like between them aside."""
        node = self.node
        while node.op != "placeholder":
            if not isinstance(node.args[0], torch.fx.Node):
                return False
            node = node.args[0]
            if self.readers(node) != 1:
                return False
        return True


def x_is_nonnegative(x: _Value) -> bool:
    """Whether a ReLU would change nothing."""
    return isinstance(x, _Spikes) and x.nonnegative


def _dense(term: Term) -> Tensor:
    """Return a term's weights as if it had one group."""
    if term.groups == 1:
        return term.weight
    outputs, inputs, *kernel = term.weight.shape
    dense = term.weight.new_zeros(outputs, inputs * term.groups, *kernel)
    for group in range(term.groups):
        rows = slice(group * outputs // term.groups, (group + 1) * outputs // term.groups)
        dense[rows, group * inputs : (group + 1) * inputs] = term.weight[rows]
    return dense


def _function_name(target: Any) -> str:
    return str(getattr(target, "__name__", target))
