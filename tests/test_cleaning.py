"The cleaning desk: edits, their journal, what comes out, and what is refused"
import hashlib
import json
import os
import subprocess
import sys

import numpy as np, pandas as pd, pytest
from hypothesis import given, settings, strategies as st
from textnb.panels import *
from textnb.panels.journal import _event

CLASSES = ['neg', 'pos', 'x<y']

def frame(n=40, seed=0):
    r = np.random.default_rng(seed)
    return pd.DataFrame(dict(text=[f'text {i} with "quotes", <b>markup</b>\nand a line' for i in range(n)], label=r.choice(CLASSES, n), other=np.arange(n)), index=np.arange(n)*3+100)

class Model:
    "The desk as one would write it without thinking of speed: all states are kept"
    def __init__(self): self.states,self.at = [{}],0
    @property
    def rows(self): return self.states[self.at]
    def edit(self, row, field, value):
        new = {k: dict(v) for k,v in self.rows.items()}
        o = new.setdefault(row, {})
        if value is None: o.pop(field, None)
        else: o[field] = value
        if not o: del new[row]
        if new!=self.rows: self.states,self.at = [*self.states[:self.at+1], new],self.at+1
    def undo(self): self.at = max(0, self.at-1)
    def redo(self): self.at = min(len(self.states)-1, self.at+1)

def test_fuzz(tmp_path):
    "Goals C5 and fastai#3084: 500 random acts equal the plain model; the journal replays to the same; marks stay when class, filter or page change"
    df,m = frame(),Model()
    desk = CleaningDesk(df, tmp_path/'j.jsonl', size=5)
    desk.send('advance', False)
    r = np.random.default_rng(1)
    for _ in range(500):
        act = r.choice(['label', 'drop', 'note', 'keep', 'undo', 'redo', 'turn', 'actual', 'show', 'text', 'restart'], p=[.22, .12, .1, .05, .15, .1, .1, .06, .04, .04, .02])
        row = int(r.integers(40))
        if act in ('label', 'drop', 'note', 'keep'):
            desk.send('row', row)
            v = {'label': CLASSES[r.integers(3)], 'note': str(r.choice(['', 'a', 'b "x"\n']))}.get(act)
            desk.send(act, v)
            if act=='label': m.edit(row, 'label', None if v==df.label.iloc[row] else v)
            elif act=='drop': m.edit(row, 'drop', None if m.rows.get(row, {}).get('drop') else True)
            elif act=='note': m.edit(row, 'note', v or None)
            else:
                new = {k: v for k,v in m.rows.get(row, {}).items() if k=='note'}
                all_rows = {k: v for k,v in m.rows.items() if k!=row} | ({row: new} if new else {})
                if all_rows!=m.rows: m.states,m.at = [*m.states[:m.at+1], all_rows],m.at+1
        elif act in ('undo', 'redo'):
            desk.send(act)
            getattr(m, act)()
        elif act=='turn': desk.send('turn', int(r.integers(-3, 4)))
        elif act=='actual': desk.send('actual', [None, 0, 1, 2][r.integers(4)])
        elif act=='show': desk.send('show', str(r.choice(['all', 'touched', 'untouched', 'dropped', 'relabelled', 'noted'])))
        elif act=='text': desk.send('text', str(r.choice(['', '1', 'text 2'])))
        else:
            desk = CleaningDesk(df, tmp_path/'j.jsonl', size=5)
            desk.send('advance', False)
        assert desk.error is None and desk.state['edits']['rows']==m.rows
        assert (len(desk.state['edits']['past']), len(desk.state['edits']['future']))==(m.at, len(m.states)-1-m.at)
    assert m.rows and CleaningDesk(df, tmp_path/'j.jsonl').state['edits']['rows']==m.rows
    while m.at: m.undo(), desk.send('undo')
    assert desk.state['edits']['rows']==m.rows=={}

acts = st.lists(st.one_of(st.tuples(st.just('edit'), st.lists(st.tuples(st.integers(0, 4), st.sampled_from(FIELDS), st.sampled_from([None, 'a', 'b'])), min_size=1, max_size=3)),
    st.sampled_from([('undo', None), ('redo', None)])), max_size=25)

@settings(max_examples=100, deadline=None)
@given(acts)
def test_undo_takes_back(events):
    "After any acts: undoing all of them leads to nothing, redoing all of them back; a replay equals the steps; no state is changed afterwards"
    e,seen = no_edits(),[]
    for ev in events:
        seen.append((e, json.dumps(e['rows'], sort_keys=True)))
        e = reduce_edits(e, ev)
    assert all(json.dumps(o['rows'], sort_keys=True)==s for o,s in seen)
    assert replay(events)['rows']==e['rows']
    top,n = e['rows'],len(e['past'])
    for _ in range(n): e = reduce_edits(e, ('undo', None))
    assert e['rows']=={} and e['past']==[]
    for _ in range(n): e = reduce_edits(e, ('redo', None))
    assert e['rows']==top

def test_every_cut(tmp_path):
    "Goal C5: a journal that is cut at any byte gives the events whose lines are whole, and goes on from there"
    df = frame(4)
    desk = CleaningDesk(df, tmp_path/'j.jsonl')
    desk.relabel(0, 'x<y').drop(1).note(2, 'ü ☃')
    data = (tmp_path/'j.jsonl').read_bytes()
    ends = [i+1 for i,c in enumerate(data) if c==10]
    for cut in range(ends[0], len(data)+1, 3):
        f = tmp_path/'cut.jsonl'
        f.write_bytes(data[:cut])
        again = CleaningDesk(df, f)
        whole = sum(e<=cut for e in ends)-1
        assert len(again.log.events)==whole and again.log.torn==(cut not in ends)
        again.drop(3)
        assert len(CleaningDesk(df, f).log.events)==whole+1 and not CleaningDesk(df, f).log.torn

def test_killed(tmp_path):
    "Goals C5 and E12: a process that is killed without warning has lost nothing that it confirmed"
    frame().to_csv(tmp_path/'d.csv')
    code = f'''
import os, sys
from textnb.panels import CleaningDesk
desk = CleaningDesk.from_csv({str(tmp_path/"d.csv")!r})
for i in range(10**6):
    desk.note(i%40, f"n{{i}}")
    os.write(3, f"{{i}}\\n".encode())
'''
    r,w = os.pipe()
    p = subprocess.Popen([sys.executable, '-c', code.replace('os.write(3', f'os.write({w}')], pass_fds=[w], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    os.close(w)
    said = b''
    while said.count(b'\n')<25:
        got = os.read(r, 4096)
        assert got, p.stderr.read().decode()
        said += got
    p.kill()
    while got := os.read(r, 4096): said += got
    os.close(r)
    p.wait()
    p.stderr.close()
    n = said.count(b'\n')
    events = CleaningDesk.from_csv(tmp_path/'d.csv').log.events
    assert n<=len(events)<=n+1 and events[n-1]==('edit', [((n-1)%40, 'note', f'n{n-1}')])

def test_broken_in_the_middle(tmp_path):
    "A stranger's hand in the journal is named with its line; another desk, other data and other files are refused"
    df,f = frame(4),tmp_path/'j.jsonl'
    desk = CleaningDesk(df, f)
    desk.drop(0).drop(1)
    lines = f.read_text().splitlines(keepends=True)
    f.write_text(lines[0]+'{"do": \n'+lines[2])
    with pytest.raises(ValueError, match='line 2'): CleaningDesk(df, f)
    f.write_text(''.join(lines)+'{"do": "fly"}\n')
    with pytest.raises(ValueError, match='line 4'): CleaningDesk(df, f)
    f.write_text(''.join(lines))
    with pytest.raises(ValueError, match='other data'): CleaningDesk(frame(5), f)
    with pytest.raises(ValueError, match='other data'): CleaningDesk(df.assign(label='neg'), f)
    (tmp_path/'x').write_text('{"a": 1}\n')
    with pytest.raises(ValueError, match='not a journal'): CleaningDesk(df, tmp_path/'x')
    with pytest.raises(ValueError, match='not a journal'): apply_edits(df, tmp_path/'x')
    with pytest.raises(FileNotFoundError): apply_edits(df, tmp_path/'none')

def test_two_desks(tmp_path):
    "Two desks on one journal share a history: the decision of one counts before that of the other"
    df = frame(4)
    a,b = (CleaningDesk(df, tmp_path/'j.jsonl') for _ in range(2))
    a.drop(0)
    b.drop(1)
    assert b.state['edits']['rows']=={0: {'drop': True}, 1: {'drop': True}}
    assert CleaningDesk(df, tmp_path/'j.jsonl').state['edits']['rows']==b.state['edits']['rows']

def test_disk_full(tmp_path, monkeypatch):
    "What cannot be written is not done, and the journal stays whole"
    import textnb.panels.journal as m
    df = frame(4)
    desk = CleaningDesk(df, tmp_path/'j.jsonl')
    desk.drop(0)
    def full(fd): raise OSError(28, 'No space left on device')
    monkeypatch.setattr(m.os, 'fsync', full)
    desk.send('open', 1).send('drop')
    assert isinstance(desk.error, OSError) and desk.state['edits']['rows']=={0: {'drop': True}}
    monkeypatch.undo()
    assert desk.send('drop').error is None
    assert CleaningDesk(df, tmp_path/'j.jsonl').state['edits']['rows']=={0: {'drop': True}, 1: {'drop': True}}

def test_csv_there_and_back(tmp_path):
    "Goal C5: decisions go out as CSV and come in the same, in one edit; the source is not touched"
    df = frame()
    df.to_csv(tmp_path/'d.csv', index=False)
    before = (tmp_path/'d.csv').stat().st_mtime_ns,hashlib.sha256((tmp_path/'d.csv').read_bytes()).hexdigest()
    desk = CleaningDesk.from_csv(tmp_path/'d.csv')
    desk.relabel(3, 'x<y' if df.label.iloc[3]!='x<y' else 'neg').drop(4).note(4, 'a, "b"\nc').note(5, '=1+1').drop(6).note(39, '\ud800')
    desk.export(tmp_path/'out.csv')
    other = CleaningDesk.from_csv(tmp_path/'d.csv', tmp_path/'other.jsonl').read_csv(tmp_path/'out.csv')
    want = {**desk.state['edits']['rows'], 39: {'note': '\\ud800'}}
    assert other.state['edits']['rows']==want and len(other.state['edits']['past'])==1
    assert CleaningDesk.from_csv(tmp_path/'d.csv', tmp_path/'other.jsonl').state['edits']['rows']==want
    for f in (tmp_path/'d.csv', desk.log.path):
        with pytest.raises(ValueError, match='another name'): desk.export(f)
    assert before==((tmp_path/'d.csv').stat().st_mtime_ns, hashlib.sha256((tmp_path/'d.csv').read_bytes()).hexdigest())

@pytest.mark.parametrize('col,value,said', [('row', '77', 'line 3: there is no row'), ('text', 'other', 'line 3: row 1 has another text'), ('new_label', 'nix', "line 3: there is no class 'nix'"),
    ('drop', 'yes', 'line 3: drop is 0 or 1')])
def test_csv_refused(tmp_path, col, value, said):
    "A file of other data, or with a class that is not there, is refused with its line, and nothing is taken over"
    desk = CleaningDesk(frame(4))
    desk.drop(0).drop(1)
    df = desk.to_frame().astype(str)
    df.loc[1, col] = value
    df['drop'] = df['drop'].replace('True', '1')
    df.to_csv(tmp_path/'o.csv', index=False)
    with pytest.raises(ValueError, match=said): CleaningDesk(frame(4)).read_csv(tmp_path/'o.csv')
    with pytest.raises(ValueError, match='no column'):
        df.drop(columns='note').to_csv(tmp_path/'p.csv', index=False)
        desk.read_csv(tmp_path/'p.csv')

@pytest.mark.parametrize('labels', [['neg', 'pos'], [0, 1], [True, False]])
def test_applied(tmp_path, labels):
    "The cleaned table, by the journal or by the desk: rows are found by their index, labels keep their type, the old table stays"
    df = pd.DataFrame(dict(text=list('abcdef'), y=[labels[i%2] for i in range(6)]), index=list('uvwxyz'))
    was = df.copy()
    desk = CleaningDesk(df, tmp_path/'j.jsonl', label_col='y')
    desk.relabel(1, str(labels[0])).drop(2).note(5, 'hm')
    for o in (apply_edits(df, tmp_path/'j.jsonl', label_col='y', note_col='n'), desk.apply(label_col='y', note_col='n')):
        assert o.index.tolist()==list('uvxyz') and o.y.dtype==df.y.dtype
        assert o.y.tolist()==[labels[i] for i in (0, 0, 1, 0, 1)] and o.n.tolist()==['', '', '', '', 'hm']
    mixed = df.sample(frac=1, random_state=0)
    assert apply_edits(mixed, tmp_path/'j.jsonl', label_col='y').sort_index().equals(apply_edits(df, tmp_path/'j.jsonl', label_col='y'))
    assert df.equals(was)
    with pytest.raises(ValueError, match='text that was judged'): apply_edits(df.assign(text='q'), tmp_path/'j.jsonl', label_col='y')

def test_bad_tables():
    "What is no table to clean is named"
    with pytest.raises(ValueError, match="no label column 'y'"): CleaningDesk(frame(), label_col='y')
    with pytest.raises(ValueError, match="'body'"): CleaningDesk(frame(), text_col='body')
    with pytest.raises(ValueError, match='missing'): CleaningDesk(frame().assign(label=None))
    desk = CleaningDesk(frame(4))
    for f in (lambda: desk.relabel(0, 'nix'), lambda: desk.drop(9), lambda: desk.do([(0, 'colour', 'red')])):
        with pytest.raises(ValueError): f()
    assert desk.state['edits']['rows']=={} and isinstance(desk.send('drop').error, ValueError)

def test_journal_of_a_bad_event():
    "An event with a field that is not there is refused"
    with pytest.raises(ValueError, match='line 7'): _event(dict(do='edit', changes=[[0, 'colour', 'red']]), 'f', 7)

def test_next_row(tmp_path):
    "After a decision the next row opens, over the end of a page and where decided rows vanish"
    desk = CleaningDesk(frame(10), size=4)
    desk.send('open', 0)
    for i in range(10):
        assert desk.state['row']==i and desk.state['drawer']['row']==i
        desk.send('drop')
    assert len(desk.state['edits']['rows'])==10 and desk.error is None
    desk = CleaningDesk(frame(10), size=4, show='untouched')
    desk.send('open', 0)
    for i in range(3): desk.send('drop')
    assert [r['row'] for r in desk.state['rows']]==[3, 4, 5, 6] and desk.state['row']==3

def test_widgets(tmp_path):
    "Goal C5 by the controls: label buttons, note, undo; a note belongs to its row; the widgets close"
    from ipywidgets.widgets.widget import _instances
    n = len(_instances)
    desk = CleaningDesk(frame(10), tmp_path/'j.jsonl', size=4)
    desk.widget
    def press(s): [b for b in desk_buttons(desk) if b.description==s][0].click()
    desk._ui['rows'].children[1].click()
    desk._controls['advance'].value = False
    desk._controls['note'].value = 'look again'
    press('Drop')
    assert desk.state['edits']['rows']=={1: {'note': 'look again', 'drop': True}} and desk.error is None
    press('↓ Open next')
    assert desk.state['row']==2 and desk._controls['note'].value==''
    press('↑ Open previous')
    assert desk._controls['note'].value=='look again'
    press('↶ Undo')
    press('↶ Undo')
    assert desk.state['edits']['rows']=={} and desk._controls['note'].value==''
    press('↷ Redo')
    assert 'note: look again' in desk._ui['body'].value
    desk.close()
    assert len(_instances)<=n+5

def desk_buttons(desk):
    "All buttons of the desk"
    def family(w):
        yield w
        for o in getattr(w, 'children', ()): yield from family(o)
    return [w for w in family(desk._ui['box']) if type(w).__name__=='Button']

def test_harmless():
    "Goal E7: markup in texts, labels and notes stays text"
    df = frame(3).assign(label=['<script>a', '"q"', 'n'])
    html = CleaningDesk(df).note(0, '<img src=x onerror=alert(1)>').send('open', 0).to_html()
    assert '<img' not in html and '<script' not in html and '&lt;script' in html and '&lt;img' in html and '<b>markup' not in html

def test_from_interpretation(tmp_path):
    "From an interpretation: worst fitting labels first, rows named by the index of the table they came from"
    from test_top_losses import fake
    interp,df = fake(60, 2)
    desk = CleaningDesk(interp, tmp_path/'j.jsonl')
    q = interp.preds.numpy()[np.arange(60), interp.y_true.numpy()]
    assert [r['row'] for r in desk.state['rows']]==np.argsort(q, kind='stable')[:8].tolist()
    assert set(desk.send('show', 'candidates').selected(desk.state).tolist())==interp.candidates
    row = int(np.argsort(q)[0])
    new = 'pos' if df.label[row]=='neg' else 'neg'
    desk.send('show', 'all').relabel(row, new)
    assert apply_edits(df, tmp_path/'j.jsonl').label[row]==new and desk.error is None
    d = desk.send('row', row).state['drawer']
    assert desk.error is None and d['pieces'] and f'{df.label[row]} → {new}' in desk.to_html()
