# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""Fills the int32 arrays of a step. The caller has checked that they are large enough."""

from cpython cimport array


def assemble(list chunks, int block_size, int table_width, int[::1] token_ids, int[::1] positions,
             int[::1] slot_mapping, int[::1] query_start_loc, int[::1] seq_lens,
             int[::1] block_tables, int[::1] logit_rows):
    """Writes the chunks one after another; block_tables is S rows of `table_width`.

    Raises ValueError where a chunk reaches beyond its request's tokens or blocks.
    """
    cdef array.array known, table
    cdef int num_seqs = 0, num_tokens = 0, num_rows = 0
    cdef int start, count, end, rows, source_row, num_blocks, position, i
    cdef int* known_ids
    cdef int* table_ids
    cdef int* row
    query_start_loc[0] = 0
    for chunk in chunks:
        request = chunk.request
        known = request.token_ids
        table = request.block_table
        known_ids = known.data.as_ints
        table_ids = table.data.as_ints
        start = chunk.start
        count = chunk.num_tokens
        rows = chunk.num_rows
        source_row = chunk.source_row
        end = start + count
        num_blocks = (end + block_size - 1) // block_size
        if num_blocks > len(table) or num_blocks > table_width:
            raise ValueError(f"request {request.request_id}: {end} tokens, {len(table)} blocks")
        if end > len(known) + (source_row >= 0):
            raise ValueError(f"request {request.request_id}: {end} tokens, {len(known)} known")
        for position in range(start, end):
            i = num_tokens + position - start
            token_ids[i] = known_ids[position] if position < len(known) else -(source_row + 1)
            positions[i] = position
            slot_mapping[i] = (table_ids[position // block_size] * block_size
                               + position % block_size)
        row = &block_tables[num_seqs * table_width]
        for i in range(num_blocks):
            row[i] = table_ids[i]
        for i in range(num_blocks, table_width):
            row[i] = -1
        num_tokens += count
        for i in range(rows):
            logit_rows[num_rows + i] = num_tokens - rows + i
        num_rows += rows
        seq_lens[num_seqs] = end
        num_seqs += 1
        query_start_loc[num_seqs] = num_tokens
