from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from rocmforge.engine.schedule import ScheduledChunk

_Ints: TypeAlias = npt.NDArray[np.int32]

def assemble(
    chunks: list[ScheduledChunk],
    block_size: int,
    table_width: int,
    token_ids: _Ints,
    positions: _Ints,
    slot_mapping: _Ints,
    query_start_loc: _Ints,
    seq_lens: _Ints,
    block_tables: _Ints,
    logit_rows: _Ints,
) -> None: ...
