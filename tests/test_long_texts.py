"Texts of a megabyte, and patterns without an end: a page stays small, and says what it leaves out"
import numpy as np, pytest

from textnb.base import html_table
from textnb.explain import Attribution
from textnb.panels import excerpt, found_spans, select_rows, shading, sparkline, styled, tokens_in
from textnb.text import Tokenizer, TextProcessor, Vocab, sentence_groups, token_spans

WORDS = 'a good film .'.split()*50_000

def record(words):
    "An attribution of a text of these words"
    ends = np.cumsum([len(o)+1 for o in words])
    spans = [(int(end)-len(o)-1, int(end)-1) for o,end in zip(words, ends)]
    return Attribution(text=' '.join(words), tokens=list(words), ids=np.arange(len(words)), scores=np.linspace(-1, 1, len(words)), spans=spans, method='lrp', target=0, target_name='pos', probs=np.ones(1), signed=True)

def test_html_of_a_long_text():
    "The HTML of 200,000 words is that of the first 5,000, and says so; of 100 words nothing is left out"
    a = record(WORDS)
    for html in (a.to_html(), a.to_html(view='text'), styled(shading(WORDS, [.5]*len(WORDS)))):
        assert len(html)<3_000_000 and 'The first 5,000 of ' in html and 'words are shown' in html
    assert len(sparkline(np.random.default_rng(0).random(200_000), 'p'))<100_000
    short = record(WORDS[:100])
    for html in (short.to_html(), short.to_html(view='text'), styled(shading(WORDS[:100], [.5]*100))): assert 'are shown' not in html and html.count('film')>=25

def test_tables_of_long_texts():
    "A cell and a table end somewhere"
    assert len(html_table(['text'], [['word '*200_000]]))<30_000
    assert html_table(['n'], [[i] for i in range(10_000)]).count('<td')==5000

@pytest.mark.parametrize('pattern', ['(a+)+$', '(a|aa)+$', '(.*)*b', '(a*)*(a*)*b'])
def test_patterns_without_an_end(pattern):
    "They are stopped, and what can be done is said"
    text = 'a'*60+'!'
    with pytest.raises(ValueError, match='was stopped'): found_spans(pattern, [text])
    with pytest.raises(ValueError, match='was stopped'): tokens_in(text, [(0, 61)], pattern)

def test_rows_by_patterns():
    "A view of rows by a pattern: as Python finds it, in one search for all rows"
    import pandas as pd
    import re
    texts = [f'row {i} {"great" if i%3 else "bad"}' for i in range(3000)]
    facts = pd.DataFrame(dict(actual=0, predicted=0, loss=0., prob=1.), index=range(3000))
    rows = select_rows(facts, dict(text='[2-5]+ G', regex=True, sort='row', down=False), texts.__getitem__)
    assert rows.tolist()==[i for i,t in enumerate(texts) if re.search('[2-5]+ G', t, re.IGNORECASE)]
    assert excerpt(texts[2], '[2-5]+ G', True)==['row ', '2 g', 'reat']
    with pytest.raises(ValueError, match='was stopped'): select_rows(facts, dict(text='(a+)+$', regex=True), lambda i: 'a'*50+'!')
    with pytest.raises(ValueError, match='no regular expression'): select_rows(facts, dict(text='(', regex=True), texts.__getitem__)

def test_stretches_and_sentences():
    "Places of the last part of a long text, and its sentences, in a time that does not grow with the square"
    proc = TextProcessor(Tokenizer(), Vocab(['xxunk']))
    text = 'so so. '*20_000
    every = list(proc.tokens(text))
    spans = token_spans(proc, text)
    part = every[len(every)//2:]
    assert token_spans(proc, text, [*part])[0] is not None and len(token_spans(proc, text, part))==len(part)
    assert token_spans(proc, 'one two three four', ['three', 'four'])==[(8, 13), (14, 18)]
    with pytest.raises(ValueError, match='no stretch'): token_spans(proc, text, ['never', 'there'])
    groups = sentence_groups(every, spans)
    assert [i for g in groups for i in g]==list(range(len(every))) and len(groups)==20_000
