"""The forms in which other programs write a cell: each reads as the same cell in our own form, or gives one line."""

import json

import pytest

from beta_darts_jax import InputError
from beta_darts_jax.spaces.genotype import Genotype
from beta_darts_jax.spaces.lookup import find_genotype
from beta_darts_jax.spaces.published import PUBLISHED

ARCH = '|avg_pool_3x3~0|+|skip_connect~0|none~1|+|nor_conv_1x1~0|avg_pool_3x3~1|nor_conv_1x1~2|'
DARTS_V2 = str(PUBLISHED['DARTS_V2'])
NORMAL = "[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('skip_connect', 0), ('dil_conv_3x3', 2)]"
REDUCE = "[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 1)]"
SMALL = f'Genotype(normal={NORMAL}, normal_concat=range(2, 4), reduce={REDUCE}, reduce_concat=range(2, 4))'
NESTED = """Genotype(normal=[[('sep_conv_3x3', 0), ('sep_conv_3x3', 1)], [('skip_connect', 0), ('dil_conv_3x3', 2)]],
  normal_concat=range(2, 4), reduce=[(('max_pool_3x3', 0), ('max_pool_3x3', 1)),  # step 1
  (('skip_connect', 2), ('max_pool_3x3', 1))], reduce_concat=[2, 3]"""
TRIPLES = SMALL.replace(', 0)', ', 0, 0.13)').replace(', 1)', ', 1, 1.0)')

SAME_CELL = {
  'Structure of xautodl': (f'Structure(4 nodes with {ARCH})', ARCH),
  'printed by xautodl': (f'nodes=4, the best is {ARCH} at epoch 3', ARCH),
  'list of xautodl': (
    "[(('avg_pool_3x3', 0),), (('skip_connect', 0), ('none', 1)), "
    "(('nor_conv_1x1', 0), ('avg_pool_3x3', 1), ('nor_conv_1x1', 2))]",
    ARCH,
  ),
  'indices of NASLib': ('(4, 0, 3, 1, 4, 3)', ARCH),  # NASLib's convert_op_indices_to_str gives ARCH
  'dict of NNI': (
    '{"0_1": "avg_pool_3x3", "0_2": "skip_connect", "0_3": "conv_1x1", "1_2": "none", "1_3": "avg_pool_3x3", '
    '"2_3": "conv_1x1"}',
    ARCH,
  ),
  'edges in another order': (ARCH.replace('|skip_connect~0|none~1|', '|none~1|skip_connect~0|'), ARCH),
  'spaces': (ARCH.replace('+', ' + ').replace('|', '| '), ARCH),
  'byte order mark and comment': (f'\ufeff# the best cell\n{ARCH}\n', ARCH),
  'assignment': (f'genotype = {SMALL}', SMALL),
  'line of a log': (f'11/29 04:27:58 AM | INFO | genotype = {SMALL}; acc 97.2', SMALL),
  'line of a log that begins with a bar': (f'| INFO | genotype = {SMALL}', SMALL),
  'bars and tildes around an arch string': (f'| INFO | ~/runs/x | {ARCH} | ~94 % |', ARCH),
  'row of a table': (f'|5||{ARCH}||94.1|', ARCH),
  'the same cell twice': (f'{SMALL}\n{SMALL}', SMALL),
  'nested nodes': (f'{NESTED})', SMALL),
  'parts of xautodl': (f'{NESTED}, connectN=None, connects=None)', SMALL),
  'triples of GDAS': (TRIPLES, SMALL),
  'dict with single quotes': (
    f"{{'normal': {NORMAL}, 'normal_concat': [2, 3], 'reduce': {REDUCE}, 'reduce_concat': [2, 3]}}",
    SMALL,
  ),
  'numbers of NumPy': (SMALL.replace(', 0)', ', np.int64(0))'), SMALL),
  'targets of FairDARTS': (  # no edge enters node 3, so it has no number, and the edge from it is left out
    "Genotype(normal=[('sep_conv_3x3', 2, 0), ('sep_conv_3x3', 2, 1), ('skip_connect', 4, 0), ('sep_conv_3x3', 4, 3), "
    f"('dil_conv_3x3', 4, 2)], normal_concat=range(2, 5), reduce={REDUCE}, reduce_concat=range(2, 4))",
    SMALL,
  ),
}


@pytest.mark.parametrize('form', SAME_CELL)
def test_a_form_of_another_program_reads_as_the_same_cell(form):
  text, same = SAME_CELL[form]
  assert Genotype.parse(text) == Genotype.parse(same)


def test_nodes_may_have_one_or_three_edges():
  """FairDARTS keeps any number of edges. Such a cell is written with a list of edges per node."""
  genotype = PUBLISHED['FAIR_DARTS_B']
  assert [len(node) for node in genotype.normal.nodes] == [2, 1, 2, 1]
  assert Genotype.parse(str(genotype)) == genotype


@pytest.mark.parametrize(
  'text, message',
  [
    (f'{ARCH} and {ARCH.replace("none", "skip_connect")}', 'it holds 2 different cells'),
    (f'{SMALL} {DARTS_V2}', 'it holds 2 different cells'),
    (f'{ARCH}+|none~0', r"'…\+\|none~0' is no part of a cell"),
    (f'{ARCH} +', r"'… \+' is no part of a cell"),
    (ARCH[:-1], "'…nor_conv_1x1~2' is no part of a cell"),
    (ARCH[1:], r"'3~0\|\+…' is no part of a cell"),
    (f'{ARCH}none|', r"'…none\|' is no part of a cell"),
    (f'{ARCH} none~3', "'e~3' is no part of a cell"),
    ('(4, 0, 3, 1, 4, 5)', 'the operation indices of NASLib are 0 … 4'),
    ('{"0_1": "none"}', 'expected an operation for each of 0_1, 0_2'),
    (SMALL.replace(REDUCE, 'None'), 'reduce: expected lists of edges'),
    ('Genotype(recurrent=[], concat=range(1, 9))', 'it has the parts recurrent, concat'),
    ('[]', 'it is not a cell'),
  ],
)
def test_a_part_of_a_cell_is_not_taken_for_the_whole(text, message):
  with pytest.raises(InputError, match=message):
    Genotype.parse(text)


def test_an_index_of_nas_bench_201_is_the_cell_of_the_table(table_path):
  assert find_genotype('9930', table_path) == (PUBLISHED['BETA_DARTS'], False)
  with pytest.raises(InputError, match='the indices of NAS-Bench-201 are 0 … 15624'):
    find_genotype('15625', table_path)


def test_an_index_without_the_table_says_how_to_get_the_table(monkeypatch):
  monkeypatch.delenv('NAS_BENCH_201_TABLE', raising=False)
  with pytest.raises(InputError, match=r'6111 is an index of NAS-Bench-201\. There is no NAS-Bench-201 table'):
    find_genotype('6111')


@pytest.mark.parametrize(
  'text, name', [('beta_darts', 'BETA_DARTS'), ('FairDARTS_a', 'FAIR_DARTS_A'), ('DARTS-', 'DARTS_MINUS')]
)
def test_case_and_hyphens_of_a_name_do_not_count(text, name):
  assert find_genotype(text) == (PUBLISHED[name], False)


@pytest.mark.parametrize('text, near', [('GDAS_V1', 'Did you mean GDAS?'), ('resnet', 'cell. The published cells are')])
def test_only_a_near_name_is_suggested(text, near):
  with pytest.raises(InputError, match=near.replace('?', r'\?')):
    find_genotype(text)


def test_a_run_with_the_name_of_a_published_cell_is_ambiguous(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  cell = '|nor_conv_3x3~0|+|none~0|nor_conv_1x1~1|+|skip_connect~0|none~1|avg_pool_3x3~2|'
  (tmp_path / 'GDAS').mkdir()
  assert find_genotype('GDAS') == (PUBLISHED['GDAS'], False)
  (tmp_path / 'GDAS' / 'genotype.json').write_text(json.dumps({'genotype': cell}))
  with pytest.raises(InputError, match=r'a run here has this name: expected \./GDAS for that one'):
    find_genotype('GDAS')
  monkeypatch.setenv('HOME', str(tmp_path))
  assert find_genotype('./GDAS') == find_genotype('~/GDAS') == (Genotype.parse(cell), False)
