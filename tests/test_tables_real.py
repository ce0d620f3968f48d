"Tables as people have them: every format, delimiter, encoding and slip of writing, on every way in"
import bz2, codecs, csv, gzip, io, json, lzma, math, random, string, warnings
from pathlib import Path

import numpy as np, pandas as pd, pytest
from hypothesis import HealthCheck, example, given, settings, strategies as st

from textnb.text import (DocumentError, TextClasDataBunch, TextLMDataBunch, TextList, build_store, csv_text, csv_texts,
    decode_text, drop_missing, folder_texts, open_text, parquet_texts, read_table, table_pieces, table_report,
    unescape_formula, write_table)
from textnb.text.fields import Dialect, guess_dialect, has_loose_quotes, lines_of, read_rows

pytestmark = pytest.mark.filterwarnings('ignore')

# ---- what was written is read again

nasty = st.text(alphabet=st.one_of(st.sampled_from('ab,;\t|"\'\r\n =+-@ \\0é\ufeff\0'),
    st.characters(codec='utf-8')), max_size=12)
names = st.lists(nasty, min_size=1, max_size=4)
quick = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

@st.composite
def tables(draw, cell=nasty, name=nasty):
    "A table of odd strings"
    columns = draw(st.lists(name, min_size=1, max_size=4))
    rows = draw(st.lists(st.lists(cell, min_size=len(columns), max_size=len(columns)), max_size=6))
    return pd.DataFrame(rows, columns=columns, dtype=object)

def same(a, b):
    return list(a.columns)==list(b.columns) and a.to_numpy(dtype=object).tolist()==b.to_numpy(dtype=object).tolist()

@quick
@given(df=tables(), ending=st.sampled_from(['csv','tsv','psv','tab','csv.gz','tsv.xz','CSV','csv.BZ2','txt']))
def test_delimited_round_trip(tmp_path, df, ending):
    path = write_table(tmp_path/f't.{ending}', df)
    assert same(read_table(path, header=True, keep_empty=True, warn=False), df)

@quick
@given(df=tables(), delimiter=st.sampled_from([',',';','\t','|']), ending=st.sampled_from(['csv','tsv']))
def test_delimiter_is_found(tmp_path, df, delimiter, ending):
    "Another delimiter than the ending says is found out, if there is anything to divide"
    path = write_table(tmp_path/f't.{ending}', df, delimiter)
    assert same(read_table(path, header=True, keep_empty=True, warn=False), df)

@quick
@given(df=tables(name=st.sampled_from(['text','label','a b','é'])), ending=st.sampled_from(['json','jsonl','ndjson.gz']))
def test_json_round_trip(tmp_path, df, ending):
    if len(set(df.columns))<df.shape[1] or not len(df): return
    assert same(read_table(write_table(tmp_path/f't.{ending}', df)), df)

@quick
@given(df=tables(name=st.sampled_from(['text','label','a b','é'])))
def test_parquet_round_trip(tmp_path, df):
    pytest.importorskip('pyarrow')
    if len(set(df.columns))<df.shape[1]: return
    assert same(read_table(write_table(tmp_path/'t.parquet', df)), df)

@quick
@given(df=tables(), size=st.integers(1, 4))
def test_pieces_are_the_whole(tmp_path, df, size):
    path = write_table(tmp_path/'t.csv', df)
    pieces = list(table_pieces(path, size, header=True, keep_empty=True, warn=False))
    rows = [row for o in pieces for row in o.to_numpy(dtype=object).tolist()]
    assert rows==df.to_numpy(dtype=object).tolist()

@quick
@given(df=tables(), ending=st.sampled_from(['csv','tsv']))
def test_formulas_are_undone(tmp_path, df, ending):
    path = write_table(tmp_path/f't.{ending}', df, escape_formulas=True)
    back = read_table(path, header=True, keep_empty=True, warn=False)
    assert not any(o[:1] and o[0] in '=+-@\t\r' for o in back.to_numpy().ravel())
    assert same(back.map(unescape_formula) if back.size else back, df)

@quick
@given(df=tables())
def test_what_pandas_writes(tmp_path, df):
    "The files of pandas are read as pandas reads them, cells that are quoted, empty or not at all"
    if len(set(df.columns))<df.shape[1] or '' in list(df.columns): return
    text = df.to_csv(index=False, quoting=csv.QUOTE_ALL)
    (tmp_path/'t.csv').write_text(text, encoding='utf-8', newline='')
    assert same(read_table(tmp_path/'t.csv', ',', header=True, keep_empty=True, warn=False), df)

@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.one_of(st.binary(max_size=200), nasty.map(str.encode)), ending=st.sampled_from(
    ['csv','tsv','json','jsonl','parquet','csv.gz','tsv.xz','csv.zst','xlsx','txt']))
def test_no_file_makes_a_bare_error(tmp_path, data, ending):
    "Whatever is in a file: a table, or a ValueError or OSError that names it"
    path = tmp_path/f't.{ending}'
    path.write_bytes(data)
    try: df = read_table(path, warn=False)
    except (ValueError, OSError) as e: assert f't.{ending}' in str(e)
    else: assert table_report(df).rows==len(df)
