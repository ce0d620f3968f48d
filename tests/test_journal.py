"The journal of the cleaning desk: several writers, kills, damage, old files, and labels that go back into a table in the column's own type"
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np, pandas as pd, pytest
from textnb.panels import *

ROOT = Path(__file__).parent.parent

def frame(n=6): return pd.DataFrame(dict(text=[f'text {i}' for i in range(n)], label=['neg', 'pos']*(n//2)))

def decided(path, df=None): return CleaningDesk(frame() if df is None else df, path).state['edits']['rows']

@pytest.fixture
def journal(tmp_path):
    "A journal with three decisions and an undo"
    f = tmp_path/'j.jsonl'
    CleaningDesk(frame(), f).relabel(0, 'pos').drop(1).note(2, 'ü "x"').send('undo')
    return f

def test_writers_and_kills():
    "Four processes that write at once, and desks that are killed while two write: all that was confirmed is there"
    res = subprocess.run([sys.executable, ROOT/'tools'/'journal_kills.py', '24', '4', '60'], env={**os.environ, 'PYTHONPATH': str(ROOT)}, capture_output=True, text=True, timeout=300)
    assert res.returncode==0, res.stdout+res.stderr
    many,killed = json.loads(res.stdout)
    assert many==dict(processes=4, confirmed=240, lost=[], failed=0)
    assert killed['kills']==24 and killed['confirmed']>20 and killed['lost']==killed['broken']==[]

def test_two_kernels_share(tmp_path):
    "A desk hears what another has decided at its next event, and an undo that would take back somebody else's decision waits"
    a,b = (CleaningDesk(frame(), tmp_path/'j.jsonl') for _ in range(2))
    a.drop(0)
    b.drop(1)
    assert b.state['edits']['rows']=={0: {'drop': True}, 1: {'drop': True}} and b.error is None
    assert a.send('turn', 1).state['edits']['rows']==b.state['edits']['rows'] and a.state['n_edits']==2
    b.note(5, 'from b')
    assert '1 times since' in str(a.send('undo').error) and a.state['edits']['rows'][5]=={'note': 'from b'}
    assert a.send('undo').error is None and 5 not in a.state['edits']['rows']
    assert decided(tmp_path/'j.jsonl')==a.state['edits']['rows']

def test_each_byte(journal, tmp_path):
    "Whichever letter of a journal becomes another, it is found and said: no damaged line counts as a decision"
    data,f = journal.read_bytes(),tmp_path/'x.jsonl'
    for i in sorted({*range(0, len(data), 4), *(i for i,c in enumerate(data) if c==10)}):
        f.write_bytes(data[:i]+bytes([data[i]^1])+data[i+1:])
        with pytest.raises(ValueError, match='broken at line|not a journal|newer version'): CleaningDesk(frame(), f)
        with pytest.raises(ValueError): apply_edits(frame(), f)
        assert f.read_bytes()==data[:i]+bytes([data[i]^1])+data[i+1:]

@pytest.mark.parametrize('change', [lambda o: o[:1]+o[2:], lambda o: o[:3]+o[2:], lambda o: [o[0], o[2], o[1], *o[3:]], lambda o: [*o[:2], b'\n', *o[2:]], lambda o: [*o, b'{"do": "undo"}\n'], lambda o: [*o, b'['*10**5+b'\n']],
    ids=['lost', 'doubled', 'moved', 'empty', 'unsealed', 'deep'])
def test_lines(journal, change):
    "Lines that were lost, doubled, moved or put in are named"
    journal.write_bytes(b''.join(change(journal.read_bytes().splitlines(keepends=True))))
    with pytest.raises(ValueError, match='broken at line [2-6]'): CleaningDesk(frame(), journal)

OLD = [dict(journal='textnb.cleaning', version=1, n=6, digest=None, classes=['neg', 'pos'])]

def old(path, *events):
    "A journal as the first version wrote it"
    head = CleaningDesk(frame(), path.with_suffix('.new')).log.head
    path.write_text(''.join(json.dumps(o)+'\n' for o in [{**OLD[0], **head}, *events]))
    return path

def edit(*changes): return dict(do='edit', changes=[list(o) for o in changes], texts=[text_hash(f'text {o[0]}') for o in changes], keys=[o[0] for o in changes])

def test_old_journals(tmp_path):
    "A journal without checksums is read, and goes on with lines that have them"
    f = old(tmp_path/'o.jsonl', edit((0, 'label', 'pos')), edit((1, 'drop', True)), dict(do='undo'), edit((3, 'note', 'x')))
    want = {0: {'label': 'pos'}, 3: {'note': 'x'}}
    assert decided(f)==want
    desk = CleaningDesk(frame(), f).drop(5).send('undo').send('redo')
    assert desk.error is None and decided(f)=={**want, 5: {'drop': True}}
    assert apply_edits(frame(), f).label.tolist()==['pos', 'pos', 'neg', 'pos', 'neg']
    f.write_bytes(f.read_bytes().replace(b'[5, "drop", true]', b'[4, "drop", true]'))
    with pytest.raises(ValueError, match='broken at line 6'): CleaningDesk(frame(), f)

@pytest.mark.parametrize('event,said', [(edit((0, 'label', 'maybe')), "no class 'maybe': there are neg, pos"), (edit((6, 'drop', True)), 'no row 6: there are 6'), (edit((-1, 'drop', True)), 'no row -1'),
    (dict(do='edit', changes=[[0, 'colour', 'red']]), "no field 'colour'"), (dict(do='edit', changes=[[1.5, 'drop', True]]), 'no row 1.5'), (dict(do='edit', changes=[['0', 'drop', True]]), 'no row'),
    (dict(do='edit', changes=[[0, 'label', ['pos']]]), 'a label is a text'), (dict(do='edit', changes=[[0, 'note', {}]]), 'a note is a text'), (dict(do='edit', changes=[[0, 'drop', 'no']]), 'dropped'),
    (dict(do='edit', changes=5), 'line 2'), (dict(do='edit', changes=[5]), 'a change is'), (dict(do='edit'), 'line 2'), (dict(do='fly'), "no event 'fly'"), (dict(), 'line 2'),
    (dict(edit((0, 'drop', True)), keys=[[1]]), 'its keys'), (dict(edit((0, 'drop', True)), keys=3), 'its keys'), (dict(edit((0, 'drop', True)), texts=[]), 'its texts')])
def test_as_strict_as_the_buttons(tmp_path, event, said):
    "What no button can do no line of a file can do either, in the desk and in `apply_edits`"
    f = old(tmp_path/'o.jsonl', event)
    with pytest.raises(ValueError, match=said): CleaningDesk(frame(), f)
    with pytest.raises(ValueError, match='line 2'): apply_edits(frame(), f)

def test_news_that_make_no_sense(journal):
    "A line that is no decision about these data, written while a desk is open: it says so, and its state stays"
    desk = CleaningDesk(frame(), journal)
    before = desk.state['edits']
    with journal.open('ab') as f: f.write(b'{"do": "edit", "changes": [[99, "drop", true]]}\n')
    with pytest.raises(ValueError, match='broken at line'): desk.drop(5)
    assert desk.state['edits'] is before

@pytest.mark.parametrize('table,said', [(frame(8), 'text that was judged'), (frame()[::-1].reset_index(drop=True), 'text that was judged'), (frame()[3:], 'text that was judged'), (frame(0), 'text that was judged'),
    (frame().drop(columns='label'), "no label column 'label'"), (frame().drop(columns='text'), "no column 'text'"), (pd.concat([frame(), frame()[['label']]], axis=1), "2 columns called 'label'")])
def test_foreign_tables(journal, table, said):
    "A table that is not the one that was judged is refused in a sentence"
    if len(table)==8: table.loc[0, 'text'] = 'another'
    with pytest.raises(ValueError, match=said): apply_edits(table, journal)

def test_heads(tmp_path):
    "A first line that says too little, a file of something else, and a folder"
    for line in ({'journal': 'textnb.cleaning', 'version': 1}, {'journal': 'textnb.cleaning', 'version': 1, 'n': 3, 'classes': 'x'}, [], 3, {'journal': 'other', 'version': 1}, {'journal': 'textnb.cleaning', 'version': 3}):
        f = tmp_path/'h.jsonl'
        f.write_text(json.dumps(line)+'\n')
        with pytest.raises(ValueError, match='h.jsonl'): CleaningDesk(frame(), f)
        with pytest.raises(ValueError, match='h.jsonl'): apply_edits(frame(), f)
    for content in ('text,label\na,b\n', 'do not lose me', '\0\0\0'):
        f.write_text(content)
        with pytest.raises(ValueError, match='not a journal'): CleaningDesk(frame(), f)
        assert f.read_text()==content
    with pytest.raises(OSError): CleaningDesk(frame(), tmp_path)

def test_gone_or_replaced(journal):
    "A journal that was taken away, cut or replaced under an open desk gets no more lines, and is not made anew without its beginning"
    desk = CleaningDesk(frame(), journal)
    data = journal.read_bytes()
    journal.unlink()
    with pytest.raises(RuntimeError, match='is gone'): desk.drop(5)
    assert not journal.exists()
    journal.write_bytes(data[:-30])
    with pytest.raises(RuntimeError, match='replaced or cut'): desk.drop(5)
    journal.write_bytes(b'x'*len(data))
    with pytest.raises(RuntimeError, match='replaced or cut'): desk.drop(5)
    journal.write_bytes(data)
    assert desk.drop(5).error is None and decided(journal)==desk.state['edits']['rows']

def test_recovered(journal, tmp_path):
    "What is whole of a damaged journal makes a new one: the last known decision about each row"
    lines = journal.read_bytes().splitlines(keepends=True)
    want = decided(journal)
    assert recover_journal(journal, tmp_path/'same.jsonl')==[] and decided(tmp_path/'same.jsonl')==want
    for i in range(1, len(lines)):
        journal.write_bytes(b''.join([*lines[:i], lines[i].replace(b'"do"', b'"dp"'), *lines[i+1:]]))
        new = tmp_path/f'{i}.jsonl'
        assert recover_journal(journal, new)==[i+1]
        left = decided(new)
        assert all(want.get(row)==fields for row,fields in left.items() if row!=2) and len(left)>=1
        apply_edits(frame(), new)
    journal.write_bytes(b'x'+b''.join(lines))
    with pytest.raises(ValueError, match='line 1'): recover_journal(journal, tmp_path/'never.jsonl')
    assert not (tmp_path/'never.jsonl').exists()

COLUMNS = dict(
    bool=pd.Series([True, False]*3), int=pd.Series([0, 1]*3), float=pd.Series([.5, 2.]*3), string=pd.Series(['01', '02']*3), nullable=pd.Series([1, 2]*3, dtype='Int64'), boolean=pd.Series([True, False]*3, dtype='boolean'),
    category=pd.Series(['neg', 'pos']*3, dtype='category'), truths=pd.Series([True, False]*3, dtype='category'), text=pd.Series(['neg', 'pos']*3, dtype='string'), objects=pd.Series([True, False]*3, dtype=object),
    lists=pd.Series([['a'], ['a', 'b']]*3), tuples=pd.Series([('a',), ('a', 'b')]*3), sets=pd.Series([{'b', 'a'}, {'c'}]*3), int8=pd.Series([1, 2]*3, dtype='int8'), dates=pd.Series(pd.to_datetime(['2020-01-01', '2021-01-01']*3)))

@pytest.mark.parametrize('kind', COLUMNS)
def test_own_type(tmp_path, kind):
    "A label goes back as what the others of its column are, by the journal and by the desk; the table stays as it was"
    df = frame().assign(label=COLUMNS[kind])
    was = df.copy()
    desk = CleaningDesk(df, tmp_path/'j').relabel(0, df.label[1]).drop(5)
    again = CleaningDesk(df, tmp_path/'j')
    for new in (apply_edits(df, tmp_path/'j'), desk.apply(), again.apply()):
        assert new.label.dtype==df.label.dtype
        assert new.label[0]==df.label[1] and type(new.label[0]) is type(df.label[1])
        assert new.label.tolist()[1:]==df.label.tolist()[1:5]
    assert df.equals(was)

@pytest.mark.parametrize('classes,told,want', [(['FALSE', 'TRUE'], 'FALSE', False), (['FALSE', 'TRUE'], 'False', False), (['FALSE', 'TRUE'], False, False), (['no', 'yes'], 'no', False), (['0', '1'], '0', False)])
def test_names_of_truths(tmp_path, classes, told, want):
    "A desk that read its labels as words, and a table that has truth values"
    desk = CleaningDesk(frame().assign(label=[classes[1], classes[0]]*3), tmp_path/'j').relabel(0, told)
    new = apply_edits(frame().assign(label=[True, False]*3), tmp_path/'j').label
    assert desk.error is None and new.dtype==bool and new[0]==want

def test_codes(tmp_path):
    "Codes that the desk has as words become numbers in a column of numbers, and words that are no numbers are refused"
    CleaningDesk(frame().assign(label=['01', '02']*3), tmp_path/'j').relabel(0, '02')
    assert apply_edits(frame().assign(label=[1, 2]*3), tmp_path/'j').label.tolist()==[2, 2, 1, 2, 1, 2]
    assert apply_edits(frame().assign(label=[1., 2.]*3), tmp_path/'j').label.tolist()==[2., 2., 1., 2., 1., 2.]
    CleaningDesk(frame(), tmp_path/'k').relabel(0, 'pos')
    with pytest.raises(ValueError, match="'pos' does not fit into column 'label'"): apply_edits(frame().assign(label=[1, 2]*3), tmp_path/'k')
    with pytest.raises(ValueError, match="'pos' does not fit"): apply_edits(frame().assign(label=[True, False]*3), tmp_path/'k')
    with pytest.raises(ValueError, match='look alike'): CleaningDesk(frame().assign(label=[1, '1']*3))

def test_a_new_category(tmp_path):
    "A class that the categories of a column do not have yet becomes one of them, and not a gap"
    CleaningDesk(frame(), tmp_path/'j').relabel(0, 'pos')
    new = apply_edits(frame().assign(label=pd.Series(['neg', 'other']*3, dtype='category')), tmp_path/'j')
    assert new.label[0]=='pos' and list(new.label.cat.categories)==['neg', 'other', 'pos']

@pytest.mark.parametrize('content,said', [(b'', 'empty'), (b'\xff\xfe\x00', 'decisions'), (b'row,new_label\n1,2,3,4\n', 'decisions'), (b'\x1f\x8b\x08\x00', 'decisions')])
def test_csv_that_is_none(tmp_path, content, said):
    "A file of decisions that cannot be read is named"
    f = tmp_path/'decisions.csv'
    f.write_bytes(content)
    with pytest.raises((ValueError, OSError), match='decisions'): CleaningDesk(frame()).read_csv(f)
    with pytest.raises(FileNotFoundError, match='none.csv'): CleaningDesk(frame()).read_csv(tmp_path/'none.csv')

def test_many_rows(tmp_path):
    "100,000 rows with 5,000 classes: twice the rows take at most some more than twice the work, by the number of looks at a class"
    looks = [0]
    class Name(str):
        __slots__ = ()
        def __eq__(self, other):
            looks[0] += 1
            return str.__eq__(self, other)
        __hash__ = str.__hash__
    n = 100_000
    df = pd.DataFrame(dict(text=np.arange(n).astype(str), label=[Name(i%5000) for i in range(n)]))
    desk = CleaningDesk(df, tmp_path/'j')
    desk.do([(i, 'label', str((i+1)%5000)) for i in range(n)])
    assert looks[0]<30*n and len(desk.state['edits']['rows'])==n
    new = apply_edits(df, tmp_path/'j')
    assert looks[0]<60*n and new.label.tolist()[:3]==['1', '2', '3']
