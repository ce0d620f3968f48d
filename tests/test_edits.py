"Edits of a text and what they do to a prediction: places, blanks and capitals, language-model and HotFlip proposals, and the panel, without a browser"
import re

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from textnb.explain import (class_scores, as_written, edits_frame, flip_class, hotflip, lm_words, open_lm, place_of,
    places, propose, put_word)
from textnb.base import set_seed
from textnb.text import TextClasDataBunch, TextLMDataBunch, SubwordTokenizer, Tokenizer
from textnb.learn import encoder_of, language_model_learner, text_classifier_learner
from textnb.models import AWD_LSTM, Transformer, TransformerXL
from textnb.panels import WINDOW, EditPanel, reduce_edit
from textnb.base import defaults

RNN,ATT = dict(emb_sz=8, n_hid=10, n_layers=2),dict(d_model=12, n_heads=2, d_head=6, d_inner=16, n_layers=2, ctx_len=40)
ARCHS = dict(lstm=(AWD_LSTM, RNN), qrnn=(AWD_LSTM, dict(RNN, qrnn=True)), transformer=(Transformer, ATT), xl=(TransformerXL, dict(ATT, mem_len=40)))
XSS = '<img src=x onerror=window.pwned=1>'
WORDS = 'the film was a great story of two people in one awful long night'.split()
TEXT = 'The film was GREAT, a long story!!!! It is'
ODD = ['', ' ', 'a', '\n', '\x00', '🎉', '我喜欢电影', 'مرحبا بالعالم', '<b>fine</b> &amp; <br />', "I can't", 'ha ha ha ha', 'no!!!!', 'a  b', '\t x\r\n', 'A', '"A film"', 'xxbos xxmaj xxunk', 'é̀ ǅungla', 'well/done#1']
quick = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

def frame():
    r = np.random.default_rng(0)
    return pd.DataFrame([(['neg', 'pos', XSS][i%3], ' '.join(r.choice(WORDS, r.integers(3, 9)))+' .') for i in range(48)], columns=['label', 'text'])

def classifier(tmp, arch='lstm', seed=0, **kwargs):
    "An untrained classifier with weights large enough for predictions to differ"
    set_seed(seed)
    a,config = ARCHS[arch]
    data = TextClasDataBunch.from_df(tmp, frame()[:36], frame()[36:], text_cols='text', label_cols='label', bs=8, min_freq=1, seed=0, **kwargs)
    learn = text_classifier_learner(data, a, config=config, pretrained=False, silent=True)
    with torch.no_grad():
        for p in learn.model.parameters(): p.mul_(2.)
    return learn

def writer(tmp, arch='lstm', **kwargs):
    "An untrained language model"
    set_seed(1)
    a,config = ARCHS[arch]
    data = TextLMDataBunch.from_df(tmp, frame()[:36], frame()[36:], text_cols='text', bs=4, bptt=10, min_freq=1, **kwargs)
    return language_model_learner(data, a, config=config, pretrained=False, silent=True)

@pytest.fixture(scope='module')
def tmp(tmp_path_factory): return tmp_path_factory.mktemp('edits')
@pytest.fixture(scope='module')
def learn(tmp): return classifier(tmp)
@pytest.fixture(scope='module')
def lm(tmp): return writer(tmp)

# Places and writing

@quick
@given(st.text(max_size=40))
def test_places_cover_words(learn, text):
    "Every place is where its word is, they follow one another, and no mark of the tokenizer has one"
    at = 0
    for n,o in enumerate(places(learn.data, text)):
        assert (o.num, text[o.start:o.end])==(n, o.word) and o.word!='' and at<=o.start<o.end
        at = o.end

@quick
@given(st.one_of(st.sampled_from(ODD), st.text(max_size=40)), st.sampled_from(['', 'xxunk', 'word', '.', "n't", "'s", '我', '🎉']), st.integers(0, 20))
@example('a film', '', 1)
def test_put_word_touches_nothing_else(learn, text, new, n):
    "What stands elsewhere stays as it is, but for one blank at each end; a deletion leaves no double blank that was not there"
    found = places(learn.data, text)
    if not found: return
    o = found[n%len(found)]
    res = put_word(learn.data, text, o.start, o.end, new)
    left,right = text[:o.start],text[o.end:]
    assert res.startswith(left[:-1]) and res.endswith(right[1:])
    middle = res[len(left[:-1]):len(res)-len(right[1:])]
    assert middle.replace(' ', '')==(left[-1:]+new+right[:1]).replace(' ', '')
    if not new and '  ' not in text: assert '  ' not in res

@quick
@given(st.lists(st.sampled_from([*WORDS, ',', '.']), min_size=1, max_size=8), st.sampled_from([*WORDS, ',', '.', 'xxunk']), st.integers(0, 7))
def test_the_tokens_are_those_that_were_meant(learn, words, new, n):
    "Put back into a text, a word makes one other token and leaves those around it alone; taken out, it is gone"
    text = ' '.join(words).replace(' ,', ',').replace(' .', '.')
    found = places(learn.data, text)
    toks,o = list(learn.data.tokens(text)),found[n%len(found)]
    if len(o.tokens)>1 or o.marks or re.search(r'([.,])\1|\b(\w+)( \2\b)', text): return
    i = o.tokens[0]
    wanted = [*toks[:i], new, *toks[i+1:]]
    if any(a==b for a,b in zip(wanted, wanted[1:])) or any(a in ',.' and b in ',.' for a,b in zip(wanted, wanted[1:])): return
    if any(len(a)==1 and a.isalpha() and b=='.' for a,b in zip(wanted, wanted[1:])): return  # `a.` is an initial, one token
    assert list(learn.data.tokens(put_word(learn.data, text, o.start, o.end, new)))==wanted
    less = [*toks[:i], *toks[i+1:]]
    if not any(a==b or a in ',.' and b in ',.' for a,b in zip(less, less[1:])): assert list(learn.data.tokens(put_word(learn.data, text, o.start, o.end, '')))==less

@pytest.mark.parametrize('old,marks,left,new', [('Film', ['xxmaj'], '', 'Story'), ('FILM', ['xxup'], 'a ', 'STORY'), ('film', [], 'A ', 'story'), ('A', [], '', 'Story'), ('A', [], 'Good. ', 'Story'),
    ('I', [], 'then ', 'story'), ('A', [], '"', 'Story'), ('ha ha ha ha', ['xxwrep', '4'], '', 'story story story story')])
def test_capitals(learn, old, marks, left, new):
    "A word is written as the one that it replaces was, by the rules of the tokenizer"
    assert as_written('story', old, marks, left)==new
    if marks: assert places(learn.data, f'{old} a')[0].marks==marks==places(learn.data, f'{new} a')[0].marks

# What an edit does

@pytest.mark.parametrize('arch,back', [*[(o, False) for o in ARCHS], ('lstm', True), ('transformer', True)])
def test_change_is_that_of_a_fresh_prediction(tmp, lm, arch, back):
    "C8: for each architecture and each adviser the change is that of `predict` on the edited text"
    learn = classifier(tmp, arch, backwards=back)
    before = learn.predict(TEXT)[2]
    for how in 'remove', 'lm', 'hotflip':
        for where in 'The', 'GREAT', '!!!!', 'is':
            edits = propose(learn, TEXT, where, how, lm, 4, 'pos')
            assert len(edits)==(2 if how=='remove' else 4)
            for o in edits:
                cat,_,p = learn.predict(o.text)
                assert o.text==put_word(learn.data, TEXT, o.start, o.end, o.new) and (o.before, o.old, o.target)==(TEXT, where, 'pos')
                assert abs(o.delta-(p-before)[2].item())<1e-5 and abs(o.p-p[2].item())<1e-5 and o.pred==str(cat)
                np.testing.assert_allclose(o.probs, p.numpy(), atol=1e-5)

def margins(s, k): return s[...,k]-torch.cat([s[...,:k], s[...,k+1:]], -1).amax(-1)

@pytest.mark.parametrize('arch,back', [*[(o, False) for o in ARCHS], ('lstm', True)])
def test_hotflip_is_gradient_times_difference(tmp, arch, back):
    "The estimate is (w-e)·df/de: by autograd done by hand, and by a small step on the way from one word to the other"
    learn = classifier(tmp, arch, backwards=back)
    model,d = learn.model.eval(),learn.data
    w,ids = encoder_of(model).encoder.weight.detach(),torch.as_tensor(d.encode(TEXT).copy())
    emb = w[ids.flip(0) if back else ids][None].clone().requires_grad_()
    margins(class_scores(model, emb)[0], 2).backward()
    g = (emb.grad[0].flip(0) if back else emb.grad[0]).clone()
    model.zero_grad(set_to_none=True)
    place = place_of(d, TEXT, 'film')
    i = place.tokens[0]
    all_of_them = {t:float((w[n]-w[ids[i]])@g[i]) for n,t in enumerate(d.vocab.itos) if t not in (*defaults.text_spec_tok, 'film', 'xxfake')}
    for more in False, True:
        edits = hotflip(learn, TEXT, 'film', 5, 'pos', more)
        best = sorted(all_of_them.values(), reverse=more)[:5]
        np.testing.assert_allclose([o.estimate for o in edits], best, atol=1e-4, rtol=1e-3)
        for o in edits: assert abs(all_of_them[o.new]-o.estimate)<1e-3*max(1, abs(o.estimate))
    m64,row = model.double(),len(ids)-1-i if back else i
    e = emb.detach().double()
    step = torch.zeros_like(e)
    step[0,row] = (w[d.vocab.stoi[edits[0].new]]-w[ids[i]]).double()*1e-5
    with torch.no_grad(): slope = (margins(class_scores(m64, e+step)[0], 2)-margins(class_scores(m64, e-step)[0], 2))/2e-5
    assert abs(slope.item()-edits[0].estimate)<1e-2*max(1, abs(edits[0].estimate))

def test_hotflip_over_the_whole_text(learn):
    "Without a place, the best exchanges of all places; each is the best of its own place as well"
    edits = hotflip(learn, TEXT, None, 6, 'pos')
    single = sorted((o.estimate for p in places(learn.data, TEXT) for o in hotflip(learn, TEXT, p.num, 6, 'pos')))[:6]
    np.testing.assert_allclose([o.estimate for o in edits], single, rtol=1e-5)

def test_flip(learn):
    "Each step lowers the class, follows from the one before, and the last one leaves it if there were edits enough"
    steps = flip_class(learn, TEXT, max_edits=8)
    assert steps and steps[0].before==TEXT and steps[0].target==str(learn.predict(TEXT)[0])
    for a,b in zip(steps, steps[1:]): assert a.text==b.before and b.p<a.p and a.pred==a.target
    assert all(o.delta<0 for o in steps) and (len(steps)==8 or steps[-1].pred!=steps[-1].target)

# The language model

@pytest.mark.parametrize('arch', ARCHS)
def test_words_are_the_top_of_the_model(tmp, learn, arch):
    "C8: the proposals are the most probable words after the tokens to the left of the word, marks of the word among them"
    lm = writer(tmp, arch)
    d,model = lm.data,lm.model.eval()
    for where in 'The', 'film', 'GREAT', ',', '!!!!':
        o = place_of(d, TEXT, where)
        x = torch.as_tensor(d.encode(TEXT)[:o.tokens[0]].copy())[None].to(lm.device)
        model.reset()
        with torch.no_grad(): p = model(x)[0][0,-1].double().softmax(-1)
        model.reset()
        own = [(w, q) for w,q in zip(d.vocab.itos, p.tolist()) if w not in (*defaults.text_spec_tok, 'xxfake')]
        wanted = sorted(own, key=lambda t: -t[1])[:5]
        got = lm_words(lm, TEXT, o.start, o.end, o.marks, 5)
        assert [w for w,_ in got]==[w for w,_ in wanted]
        np.testing.assert_allclose([q for _,q in got], [q for _,q in wanted], atol=1e-6)
        edits = propose(learn, TEXT, where, 'lm', lm, 4)
        assert [e.new for e in edits]==[s for s in (as_written(w, where, o.marks, TEXT[:o.start]) for w,_ in wanted) if s!=where][:4]

def test_a_backward_model_reads_what_is_right_of_the_word(tmp):
    "It proposes from the right context alone, and the left one changes nothing"
    lm = writer(tmp, backwards=True)
    d = lm.data
    o = place_of(d, TEXT, 'film')
    x = torch.as_tensor(d.encode(TEXT)[o.tokens[0]+1:][::-1].copy())[None].to(lm.device)
    lm.model.eval().reset()
    with torch.no_grad(): p = lm.model(x)[0][0,-1].double().softmax(-1)
    lm.model.reset()
    got = lm_words(lm, TEXT, o.start, o.end, o.marks, 3)
    np.testing.assert_allclose([p[d.vocab.stoi[w]].item() for w,_ in got], [q for _,q in got], atol=1e-6)
    other = 'Quite another beginning, '
    assert lm_words(lm, other+TEXT[o.start:], len(other), len(other)+o.end-o.start, [], 3)==got

@pytest.mark.parametrize('back', [False, True])
def test_sub_words(tmp, back):
    "A model of sub-words proposes whole words, a classifier of sub-words is edited by them, and HotFlip exchanges one piece"
    tok = Tokenizer(SubwordTokenizer.train(frame().text.tolist()*4, vocab_sz=60, backend='tokenizers'))
    lm,learn = writer(tmp, tokenizer=tok, backwards=back),classifier(tmp, tokenizer=tok, backwards=back)
    text = 'The people was GREAT.'
    place = place_of(learn.data, text, 'people')
    first = lm_words(lm, text, place.start, place.end, place.marks, 6)
    assert len(first)>=3 and all(w and '▁' not in w and 0<=p<=1 for w,p in first)
    for how in 'lm', 'hotflip', 'remove':
        for o in propose(learn, text, 'people', how, lm, 5, 'pos'):
            assert '▁' not in o.text and abs(o.p-learn.predict(o.text)[2][2].item())<1e-5
            assert o.text.startswith('The ') and o.text.endswith('was GREAT.') and place.start<=o.start<o.end<=place.end
    assert all(o.new.isupper() or not o.new.isalpha() for o in hotflip(learn, text, 'GREAT', 5))

def test_another_vocabulary(tmp, learn):
    "Words that the classifier does not know are proposed all the same, and said to be unknown"
    set_seed(0)
    df = pd.DataFrame(dict(text=['zebras eat grass and zebras sleep']*12))
    data = TextLMDataBunch.from_df(tmp, df, df[:4], text_cols='text', bs=2, bptt=5, min_freq=1)
    other = language_model_learner(data, AWD_LSTM, config=RNN, pretrained=False, silent=True)
    edits = propose(learn, TEXT, 'film', 'lm', other, 4)
    assert {o.new for o in edits}<={'zebras', 'eat', 'grass', 'and', 'sleep'} and not any(o.known for o in edits)
    assert len({round(o.p, 6) for o in edits})==1
    assert edits_frame(edits).known.tolist()==[False]*4

def test_nothing_is_left_behind(learn, lm):
    "Law 8: training flags, gradients, states and the generators are as they were"
    learn.model.train()
    lm.model.train()
    rng = torch.get_rng_state()
    first = propose(learn, TEXT, 'film', 'lm', lm, 3)
    for how in 'lm', 'hotflip', 'remove': propose(learn, TEXT, 'film', how, lm, 3)
    assert [o.text for o in propose(learn, TEXT, 'film', 'lm', lm, 3)]==[o.text for o in first]
    assert learn.model.training and lm.model.training and torch.equal(rng, torch.get_rng_state())
    assert all(p.grad is None for m in (learn.model, lm.model) for p in m.parameters())

@pytest.mark.parametrize('f,error,words', [
    (lambda l, w: propose(l, '', 0), ValueError, 'no word to edit: write one'), (lambda l, w: propose(l, 3, 0), TypeError, 'must be a str, not int'),
    (lambda l, w: propose(l, ('a', 'b'), 0), TypeError, 'must be a str'), (lambda l, w: propose(l, TEXT, 'xxbos'), ValueError, 'xxbos is a token and no word of the text'),
    (lambda l, w: propose(l, TEXT, 'xxmaj'), ValueError, 'is a token'), (lambda l, w: propose(l, TEXT, 'dog'), ValueError, "no word 'dog' in the text: choose one of The"),
    (lambda l, w: propose(l, 'a b a', 'a'), ValueError, 'its number, one of 0, 2'), (lambda l, w: propose(l, TEXT, 77), IndexError, 'there is no word 77: the text has'),
    (lambda l, w: propose(l, TEXT, 'film', class_id='meh'), IndexError, "no class 'meh'"), (lambda l, w: propose(l, TEXT, 'film', 'lm'), ValueError, 'give one, lm='),
    (lambda l, w: propose(l, TEXT, 'film', 'lm', l), TypeError, 'no language model'), (lambda l, w: propose(w, TEXT, 'film'), TypeError, 'weighed by a classifier'),
    (lambda l, w: propose(l, TEXT, 'film', 'magic'), ValueError, 'remove, lm, hotflip'), (lambda l, w: propose(l, TEXT, 'film', 'lm', 'no.tnb'), FileNotFoundError, 'no such file: no.tnb'),
    (lambda l, w: open_lm(7), TypeError, 'no language model'), (lambda l, w: flip_class(l, ''), ValueError, 'no word to edit')])
def test_errors_speak(learn, lm, f, error, words):
    "Law 10: one line that names the thing and the cure"
    with pytest.raises(error) as e: f(learn, lm)
    assert words in str(e.value) and '\n' not in str(e.value)

def test_files(learn, lm):
    "A language model comes from its file as well, and the file of a classifier is refused"
    same = propose(learn, TEXT, 'film', 'lm', lm.export('lm.tnb'), 3)
    assert [o.text for o in same]==[o.text for o in propose(learn, TEXT, 'film', 'lm', lm, 3)]
    with pytest.raises(TypeError, match='clas.tnb holds no language model'): open_lm(learn.export('clas.tnb'))

# The panel

def test_undo_restores_every_byte(learn, lm):
    "C8: whatever was done in between, undo and redo give the texts of before, character by character"
    ops = st.lists(st.one_of(st.tuples(st.just('take'), st.integers(0, 3)), st.tuples(st.just('text'), st.one_of(st.sampled_from(ODD), st.text(max_size=12))),
        st.tuples(st.sampled_from(['undo', 'redo']), st.none()), st.tuples(st.just('place'), st.integers(0, 9)), st.tuples(st.just('how'), st.sampled_from(['lm', 'less', 'remove']))), max_size=10)
    @settings(max_examples=25, deadline=None)
    @given(st.sampled_from([*ODD, TEXT]), ops)
    def run(text, ops):
        p = EditPanel(learn, text, lm, 'remove', k=4)
        done,at,last = [text],0,None
        for k,v in ops:
            if k=='take':
                edits = p.state['edits']
                if not edits: continue
                p.send('choice', v%len(edits))
                done,at = [*done[:at+1], edits[v%len(edits)].text],at+1
                p.send('take')
            else:
                if k=='text' and v!=done[at]:
                    if last=='typed' and at==len(done)-1: done = [*done[:at], v]
                    else: done,at = [*done[:at+1], v],at+1
                at = max(0, at-1) if k=='undo' else min(len(done)-1, at+1) if k=='redo' else at
                p.send(k, v)
            last = p.state['steps'][p.state['at']][1]
            assert p.error is None and (p.state['text'], p.state['at'], [t for t,_ in p.state['steps']])==(done[at], at, done)
        for _ in done: p.send('undo')
        assert p.state['text']==text
    run()

def test_every_number_of_the_panel(learn, lm):
    "Prediction, proposals and history are what `predict` says"
    p = EditPanel(learn, TEXT, lm, class_id='pos', k=5).send('place', 1)
    assert [o.text for o in p.state['edits']]==[o.text for o in propose(learn, TEXT, 1, 'lm', lm, 5, 'pos')]
    p.send('choice', 2).send('take').send('how', 'remove').send('take').send('undo')
    assert p.error is None and [s for _,s in p.state['steps']][1].startswith('film → ')
    for t,probs in p.state['probs'].items(): np.testing.assert_allclose(probs, learn.predict(t)[2].numpy(), atol=1e-5)
    for o in p.state['edits']: assert o.before==p.state['text'] and f'{o.delta:+.3f}' in p.to_html()
    assert 'undone' in p.to_html() and 'now' in p.to_html()
    low = [o.p for o in EditPanel(learn, TEXT, lm, class_id='pos').send('order', 'down').state['edits']]
    assert len(low)==8

def test_old_proposals_are_refused(learn):
    "A proposal for a text that is no longer there is not taken"
    p = EditPanel(learn, TEXT)
    p.work = lambda state: {}
    assert 'the text has changed' in str(p.send('text', 'another text').send('take').error)
    assert p.state['text']=='another text'

def test_one_class_is_followed(learn):
    "The class is that of the first text until another one is chosen, and the table follows"
    p = EditPanel(learn, TEXT)
    assert p.state['explained']==str(learn.predict(TEXT)[0])
    p.send('text', 'a').send('explained', XSS)
    assert all(o.target==XSS for o in p.state['edits']) and p.error is None
    assert "neg, pos" in str(p.send('explained', 'meh').error)

def test_no_markup_gets_through(learn, lm):
    "E7: whatever text, words and classes hold, it is seen and not run"
    p = EditPanel(learn, f'a {XSS} & "film" <script>window.pwned=1</script>', lm, class_id=XSS, k=3)
    for k,v in [('place', 2), ('take', None), ('how', 'remove'), ('take', None)]: p.send(k, v)
    assert p.error is None
    assert not re.search('<(img|script|b>1)', p.to_html()) and '&lt;img src=x onerror' in p.to_html()

def test_save_and_restore(learn, lm, tmp_path):
    "E12: steps, place in the history and choices come back; a foreign file is refused"
    p = EditPanel(learn, TEXT, lm, k=3).send('place', 2).send('take').send('text', 'é \x00 🎉').send('undo')
    p.save(tmp_path/'p.json')
    q = EditPanel(learn, '', lm).restore(tmp_path/'p.json')
    assert [q.state[k] for k in EditPanel.kept]==[p.state[k] for k in EditPanel.kept] and q.state['text']==p.state['text']
    assert q.to_html()==p.to_html() and q.send('redo').state['text']=='é \x00 🎉'
    for bad in [], [['a']], [['a', 3]], None:
        with pytest.raises((ValueError, TypeError)): reduce_edit(p.state, ('steps', bad))

def test_long_texts_stay_bounded(learn):
    "E9: a text of 600 words shows 40 of them, and typing makes no new widgets"
    from ipywidgets.widgets.widget import _instances
    before = len(_instances)
    p = EditPanel(learn, ' '.join(f'{w}{i}' for i in range(50) for w in WORDS[:12]), how='remove')
    assert p.widget is not None
    n = len(_instances)
    assert len(p._controls['place'].options)==WINDOW and len(p.to_html())<30_000
    p.send('page', 1).send('page', 1)
    assert p.state['place']==80 and p._controls['place'].value==80
    for i in range(30): p.send('text', f'{TEXT} {i}').send('take')
    assert p.error is None and len(_instances)==n and p.to_html().count('<tr')<30
    p.close()
    assert len(_instances)==before

def test_controls_and_state_agree(learn, lm):
    "Moving a control is an event, and an event moves the controls"
    p = EditPanel(learn, TEXT, lm)
    c = (p.widget, p._controls)[1]
    c['place'].value = 3
    assert p.state['place']==3 and p.state['edits'][0].old=='GREAT'
    c['how'].value = 'remove'
    assert [o.new for o in p.state['edits']]==['', 'xxunk']
    p.send('take')
    assert c['text'].value==p.state['text'] and 'GREAT' not in p.state['text']
    p.send('undo')
    assert c['text'].value==TEXT and c['choice'].options[0][0].startswith('GREAT deleted')
    p.close()
