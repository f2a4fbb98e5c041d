"""Types and shapes of the compiled module (native/bindings)."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt

FORMATS: dict[str, tuple[int, int, int]]
"""Weight formats with kernels: name to (GGUF id, weights per block, bytes per block)."""

STORED_FORMATS: dict[str, tuple[int, int, int]]
"""Weight formats that Quantizer reads and no kernel multiplies: as FORMATS."""

KV_DTYPES: dict[str, tuple[int, int]]
"""Element types of a KV cache: name to (values per block, bytes per block)."""

class Quantizer:
    """Converts rows between weight formats on `num_threads` threads."""

    def __init__(self, num_threads: int) -> None: ...
    def convert(
        self,
        source_format: str,
        rows: npt.NDArray[np.uint8],
        target_format: str,
        importance: npt.NDArray[np.float32] | None = None,
    ) -> npt.NDArray[np.uint8]:
        """Raw rows (rows, row bytes) as rows of the other format; importance has k values >= 0.

        Raises ModelFileError where a weight is no number or too large for the format.
        """

class BUILD:
    """What was built: the figures of `rocmforge --version`."""

    version: str
    commit: str  # "unknown" where the sources were no git checkout
    isas: list[str]

class cpu:
    """Single kernels, for tests and benchmarks; the engine uses `isa` and `dequantize` alone.

    `isa` arguments name a level of available_isas(); None is the best one.
    """

    @staticmethod
    def available_isas() -> list[str]: ...
    @staticmethod
    def isa() -> str: ...
    @staticmethod
    def dequantize(
        format: str, data: npt.NDArray[np.uint8], isa: str | None = None
    ) -> npt.NDArray[np.float32]: ...
    @staticmethod
    def read_bandwidth(threads: int, bytes: int) -> float: ...

    class Gemm:
        """Products of many columns at one level, in bfloat16 tiles."""

        def __init__(self, isa: str | None = None, num_threads: int = 1) -> None: ...
        def peak(self) -> float: ...
        def __call__(
            self,
            format: str,
            w: npt.NDArray[np.uint8],
            x: npt.NDArray[np.float32],
            source: npt.NDArray[np.int32] | None = None,
            rows: tuple[int, int] | None = None,
            out: npt.NDArray[np.float32] | None = None,
            grain: int = 256,
        ) -> npt.NDArray[np.float32]: ...

class gpu:
    """GPU runtimes and the pieces of the GPU path: `devices` for the product, the rest for tests.

    Runtimes are "hip", "cuda" and "host", the emulation. Opening one that is not installed raises
    UnsupportedError with what was tried.
    """

    @staticmethod
    def devices(driver: str) -> list[dict[str, Any]]: ...
    @staticmethod
    def copy_bandwidth(driver: str, ordinal: int, bytes: int) -> float: ...
    @staticmethod
    def matrix_library(driver: str) -> str:
        """The vendor's library for matrix products; raises UnsupportedError if there is none."""
    @staticmethod
    def model_problem(spec: DecoderSpec) -> str:
        """Why GPU kernels cannot run layers of this model, or ''."""
    @staticmethod
    def columns_problem(columns: int) -> str: ...
    @staticmethod
    def emulate_fault(kind: str, calls: int) -> None: ...

    class Memory:
        """Bytes on the device, or pinned ones of the host, which are an array."""

        @property
        def nbytes(self) -> int: ...
        @property
        def array(self) -> npt.NDArray[np.uint8]: ...

    class Stream:
        def done(self) -> bool: ...
        def synchronize(self) -> None: ...
        def begin_capture(self) -> None: ...
        def end_capture(self) -> gpu.Graph: ...

    class Event:
        def done(self) -> bool: ...
        def synchronize(self) -> None: ...
        def record(self, stream: gpu.Stream) -> None: ...
        def hold(self, stream: gpu.Stream) -> None: ...
        def ms_since(self, event: gpu.Event) -> float: ...

    class Graph:
        def launch(self, stream: gpu.Stream) -> None: ...

    class Driver:
        def __init__(self, name: str, ordinal: int = 0) -> None: ...
        def allocate(self, nbytes: int) -> gpu.Memory: ...
        def allocate_pinned(self, nbytes: int) -> gpu.Memory: ...
        def create_stream(self) -> gpu.Stream: ...
        def create_event(self) -> gpu.Event: ...
        def copy_to_device(
            self,
            to: gpu.Memory,
            source: gpu.Memory,
            nbytes: int,
            stream: gpu.Stream,
            to_offset: int = 0,
            source_offset: int = 0,
        ) -> None: ...
        def copy_to_host(
            self,
            to: gpu.Memory,
            source: gpu.Memory,
            nbytes: int,
            stream: gpu.Stream,
            to_offset: int = 0,
            source_offset: int = 0,
        ) -> None: ...
        def copy_on_device(
            self,
            to: gpu.Memory,
            source: gpu.Memory,
            nbytes: int,
            stream: gpu.Stream,
            to_offset: int = 0,
            source_offset: int = 0,
        ) -> None: ...
        def fill(self, to: gpu.Memory, value: int, nbytes: int, stream: gpu.Stream) -> None: ...
        def launch(
            self,
            kernel: str,
            args: bytes,
            blocks: int,
            threads: int,
            stream: gpu.Stream,
            blocks_y: int = 1,
            blocks_z: int = 1,
        ) -> None: ...
        def load(self, code_object: bytes) -> None: ...
        def address(self, memory: gpu.Memory) -> int: ...

    class Arena:
        def __init__(self, driver: str, ordinal: int, limit: int, chunk_bytes: int) -> None: ...
        def allocate(self, nbytes: int) -> int: ...
        def free(self, address: int) -> None: ...
        def write(self, address: int, data: bytes) -> None: ...
        def write_from(
            self, address: int, nbytes: int, read: Callable[[int, int], bytes]
        ) -> None: ...
        def write_file(self, address: int, nbytes: int, fd: int, offset: int) -> None: ...
        def read(self, address: int, nbytes: int) -> bytes: ...
        @property
        def bytes_reserved(self) -> int: ...
        @property
        def bytes_used(self) -> int: ...
        @property
        def num_chunks(self) -> int: ...

class NormKind:
    RMS: ClassVar[NormKind]
    LAYER: ClassVar[NormKind]

class Activation:
    SILU_GATED: ClassVar[Activation]
    GELU_GATED: ClassVar[Activation]
    OAI_GATED: ClassVar[Activation]
    GELU: ClassVar[Activation]
    RELU_SQUARED: ClassVar[Activation]

class QkNorm:
    HEAD: ClassVar[QkNorm]
    EACH_HEAD: ClassVar[QkNorm]
    WHOLE: ClassVar[QkNorm]

class ExpertGate:
    SOFTMAX: ClassVar[ExpertGate]
    SIGMOID: ClassVar[ExpertGate]
    SPARSE_MIXER: ClassVar[ExpertGate]

class RopeUse:
    NONE: ClassVar[RopeUse]
    MAIN: ClassVar[RopeUse]
    LOCAL: ClassVar[RopeUse]

class RopeSpec:
    def __init__(self, interleaved: bool, inv_freq: list[float], magnitude: float) -> None: ...
    @property
    def interleaved(self) -> bool: ...
    @property
    def inv_freq(self) -> list[float]: ...
    @property
    def magnitude(self) -> float: ...

class LatentSpec:
    def __init__(self, size: int, query_size: int, key_dim: int, value_dim: int) -> None: ...
    @property
    def size(self) -> int: ...
    @property
    def query_size(self) -> int: ...
    @property
    def key_dim(self) -> int: ...
    @property
    def value_dim(self) -> int: ...

class LayerSpec:
    def __init__(self, window: int, rope: RopeUse) -> None: ...
    @property
    def window(self) -> int: ...
    @property
    def rope(self) -> RopeUse: ...

class DecoderSpec:
    num_layers: int
    hidden_size: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    value_dim: int
    ffn_size: int
    vocab_size: int
    num_experts: int
    num_experts_used: int
    num_dense_layers: int
    dense_ffn_size: int
    expert_gate: ExpertGate
    expert_weights_scale: float
    shared_ffn_size: int
    num_positions: int
    norm_eps: float
    attention_scale: float
    attention_cap: float
    logit_cap: float
    embedding_scale: float
    residual_scale: float
    logit_scale: float
    norm: NormKind
    activation: Activation
    qk_norm: QkNorm
    expert_weights_sum_to_one: bool
    attention_sinks: bool
    output_bias: bool
    parallel_residual: bool
    causal: bool
    distance_slopes: list[float]
    latent: LatentSpec
    rope: RopeSpec
    local_rope: RopeSpec
    layers: list[LayerSpec]

class _Batch(Protocol):
    """C-contiguous int32 arrays, as in engine/batch.py."""

    token_ids: npt.NDArray[np.int32]
    positions: npt.NDArray[np.int32]
    slot_mapping: npt.NDArray[np.int32]
    query_start_loc: npt.NDArray[np.int32]
    seq_lens: npt.NDArray[np.int32]
    block_tables: npt.NDArray[np.int32]
    logit_rows: npt.NDArray[np.int32]

class StepOutput:
    """One entry per logit row; valid until the next step."""

    @property
    def token_ids(self) -> npt.NDArray[np.int32]: ...
    @property
    def logprobs(self) -> npt.NDArray[np.float32]: ...
    @property
    def top_ids(self) -> npt.NDArray[np.int32] | None: ...
    @property
    def top_logprobs(self) -> npt.NDArray[np.float32] | None: ...

class Attention:
    """Attention alone; `gpu` as for Decoder. `visible` is [queries, positions]."""

    def __init__(
        self,
        *,
        num_heads: int,
        num_kv_heads: int,
        head_dim: int,
        value_dim: int,
        scale: float,
        kv_dtype: str,
        max_tokens: int,
        gpu: tuple[str, int, str, int] | None = None,
    ) -> None: ...
    def __call__(
        self,
        q: npt.NDArray[np.float32],
        k: npt.NDArray[np.float32],
        v: npt.NDArray[np.float32],
        visible: npt.NDArray[np.bool_],
    ) -> npt.NDArray[np.float32]: ...

class LoadProgress:
    """How far loading is, for any thread."""

    @property
    def loaded_bytes(self) -> int: ...

class Decoder:
    """A model ready to run steps: the Decoder protocol of engine/decoder.py.

    `weights` maps GGUF names to (memory, format, (matrices, rows, columns), file). The memory is
    kept alive; what the kernels multiply with is copied into their layout, and what is mapped from
    a `file`, (descriptor, offset), is read from there and its pages given back. `gpu` is (driver,
    ordinal, file of the code object, bytes of the device's memory that may be used), None for the
    CPU; `on_gpu` tells what is there: the embedding, every layer, the output.
    """

    def __init__(
        self,
        spec: DecoderSpec,
        weights: Mapping[
            str, tuple[npt.NDArray[Any], str, tuple[int, int, int], tuple[int, int] | None, bool]
        ],
        *,
        num_threads: int,
        float_activations: bool,
        deterministic: bool,
        kv_dtype: str,
        num_blocks: int,
        block_size: int,
        max_num_tokens: int,
        max_num_seqs: int,
        max_model_len: int,
        gpu: tuple[str, int, str, int] | None = None,
        on_gpu: list[bool] | None = None,
        progress: LoadProgress | None = None,
    ) -> None: ...
    def enqueue(self, batch: _Batch, sampling: object | None) -> int: ...
    def collect(self, handle: int) -> StepOutput: ...
    def logits(self, handle: int) -> npt.NDArray[np.float32]: ...
    def hidden(self, handle: int) -> npt.NDArray[np.float32]: ...
    @property
    def progress(self) -> int: ...
    @property
    def lookahead(self) -> int: ...
    @property
    def vocab_size(self) -> int: ...
    @property
    def hidden_size(self) -> int: ...
    @property
    def num_blocks(self) -> int: ...
    @property
    def block_size(self) -> int: ...
    @property
    def max_num_tokens(self) -> int: ...
    @property
    def max_num_seqs(self) -> int: ...
    @property
    def max_model_len(self) -> int: ...
    @property
    def is_causal(self) -> bool: ...
    @property
    def num_threads(self) -> int: ...
    @property
    def num_launches(self) -> int: ...
    @property
    def gemm_report(self) -> str:
        """What multiplies matrices with hundreds of tokens on a GPU, and why; '' without one."""
    @property
    def num_replays(self) -> int:
        """Steps that a GPU replayed instead of launching them kernel by kernel."""
    @property
    def num_device_draws(self) -> int:
        """Steps whose tokens were drawn where the logits are."""
    @property
    def recording_problem(self) -> str | None:
        """Why steps are not recorded any more."""
    @property
    def num_device_allocations(self) -> int: ...
    @property
    def weight_bytes(self) -> int: ...
    def read_kv(self, block: int) -> npt.NDArray[np.uint8]:
        """[kv_block_bytes], for a decoder of the same model, options and devices."""
    def write_kv(self, block: int, data: npt.NDArray[np.uint8]) -> None: ...
    @property
    def kv_block_bytes(self) -> int: ...
    @property
    def kv_bytes(self) -> int: ...
    @property
    def activation_bytes(self) -> int: ...
