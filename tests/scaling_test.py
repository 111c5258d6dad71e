"""The arithmetic of benchmarks/scaling.py by hand, and that docs/scaling.md says what it prints."""
import importlib
import runpy

import pytest
import tiny

pytestmark = pytest.mark.slow

TERA, GIGA = 1e12, 1e9


@pytest.fixture
def scaling(monkeypatch):
  monkeypatch.syspath_prepend(str(tiny.ROOT / 'benchmarks'))
  return importlib.import_module('scaling')


def program(chips, rounds, **changes):
  """One of 256 rows on `chips`; rounds: (TFLOP, GB read, GB given, GB between) each."""
  keys = 'flops', 'bytes_accessed', 'argument_bytes', 'temp_bytes'
  units = TERA, GIGA, GIGA, GIGA
  return {'topology': f'{chips} chips', 'chips': chips, 'px': 256, 'rows': 256, 'length': 17,
          'remat': 'nothing', 'microbatches': 1, 'shard': 'nothing',
          'rounds': [dict(zip(keys, (value * unit for value, unit in zip(each, units))))
                     | {'exchanges': 50, 'sent': {'gradients': 3 * GIGA, 'words': GIGA}}
                     for each in rounds], **changes}


# Of r rows: 0.25 r and 0.75 r TFLOP, 20 + r and 20 + 3 r GB read, 3 GB given, 1 + 0.5 r GB between.
AT_4 = program(64, [(1, 24, 3, 2), (3, 32, 3, 3)])
AT_16 = program(16, [(4, 36, 3, 7), (12, 68, 3, 9)])


def on(scaling, chips=32, memory=20, hosts=8):
  """Devices of 100 TFLOP/s, 1 TB/s of `memory` GB, and links of 10 GB/s."""
  return scaling.Slice('made up', scaling.Chip(100 * TERA, memory * GIGA, 1000 * GIGA, 10 * GIGA),
                       chips, hosts)


def run(scaling, length=17):
  return scaling.Run('r', 51_200, length)


def test_a_row_by_hand(scaling):
  # 8 rows: 2 + 6 TFLOP, 28 + 44 GB read, 3 + 1 + 4 GB; 32 devices send 31/32 / (63/64) of 8 GB.
  row = scaling.estimate(scaling.Model([AT_4, AT_16]), on(scaling), run(scaling))
  sent = 8 * GIGA * (31 / 32) / (63 / 64)
  wanted = {
      'rows': 8, 'need': 8 * GIGA, 'flops': 8 * TERA, 'traffic': 72 * GIGA, 'sent': sent,
      'compute': 8 / (0.4 * 100), 'reading': 72 / (0.7 * 1000),
      'links': sent / (0.7 * 10 * GIGA) + 100 * 20e-6, 'steps': 500 * 51_200 // 512}
  wanted['step'] = 0.2 + wanted['links']
  wanted['hours'] = 50_000 * wanted['step'] / 3600
  wanted['host_rows'] = 512 / wanted['step'] / 8
  wanted['host_cores'] = wanted['host_rows'] / 1230
  wanted['mfu'] = 8 / wanted['step'] / 100
  assert {key: row[key] for key in wanted} == pytest.approx(wanted)
  assert row['saving'] == '-'


def test_costs_are_straight_between_programs_and_beyond(scaling):
  bent = [AT_4, AT_16, program(8, [(4, 36, 3, 7), (28, 68, 3, 9)])]      # 32 rows: as 32 TFLOP
  line = scaling.Line(bent, 'flops')
  assert [line(rows) / TERA for rows in (1, 4, 8, 16, 32, 64)] == pytest.approx(
      [1, 4, 8, 16, 32, 64])
  bent[-1]['rounds'][1]['flops'] += 16 * TERA
  line = scaling.Line(bent, 'flops')
  assert [line(rows) / TERA for rows in (1, 8, 24, 48)] == pytest.approx([1, 8, 32, 80])


def test_a_step_takes_as_long_as_the_slower_of_arithmetic_and_memory(scaling):
  slow = [program(p['chips'], [(0.01, 70, 3, 1), (0.01, 70, 3, 1)]) for p in (AT_4, AT_16)]
  row = scaling.estimate(scaling.Model(slow), on(scaling), run(scaling))
  assert row['step'] - row['links'] == pytest.approx(140 / 700)


def test_one_device_sends_nothing(scaling):
  row = scaling.estimate(scaling.Model([AT_4, AT_16]), on(scaling, 1, 1000, 1), run(scaling))
  assert (row['rows'], row['sent'], row['links']) == (256, 0, 0)


def test_the_cheapest_way_to_fit_is_chosen(scaling):
  # 8 rows need 3 + 5 GB; recomputing leaves 0.6 of the 5, and computes a quarter more.
  again = program(16, [(15, 68, 3, 5.4)], remat='blocks')      # the last round only
  parts = program(16, [(16, 68, 3, 5.5)], microbatches=2)            # 1.1 of what 8 rows need
  model = scaling.Model([AT_4, AT_16, again, parts])
  chosen = lambda memory: scaling.estimate(model, on(scaling, memory=memory), run(scaling))
  assert chosen(8.1)['saving'] == '-'
  row = chosen(7.9)
  assert (row['saving'], row['need']) == ('remat=blocks', pytest.approx(6 * GIGA))
  assert row['flops'] == pytest.approx(8 * TERA * 15 / 12)
  row = chosen(5.9)                                                # 2 rows: 3 + 1.1 * 2 GB
  assert (row['saving'], row['need']) == ('microbatches=4', pytest.approx(5.2 * GIGA))
  assert row['flops'] == pytest.approx(8 * TERA * 16 / 12)
  assert chosen(3.9)['saving'] is None and 'step' not in chosen(3.9)


def test_other_captions_need_one_program_only(scaling):
  long = program(16, [(5, 40, 3, 8), (15, 70, 3, 11)], length=64)
  row = scaling.estimate(scaling.Model([AT_4, AT_16, long]), on(scaling), run(scaling, 64))
  # At 16 rows 4 TFLOP, 6 GB read and 2 GB between more than with short ones; half of that at 8.
  assert row['flops'] == pytest.approx(10 * TERA)
  assert row['traffic'] == pytest.approx((72 + 3) * GIGA)
  assert row['need'] == pytest.approx((8 + 1) * GIGA)


def test_an_exchange_in_several_kernels_counts_once(scaling):
  gather = '  %a = f32[8]{0} all-gather(%p), channel_id=7, dimensions={0}'
  start = '  ROOT %c = f32[8]{0} custom-call(%a), custom_call_target="AsyncCollectiveStart"'
  other, larger = gather.replace('7', '8'), gather.replace('[8]', '[16]')
  text = '\n'.join([gather, '}', gather, start, gather, '}', other, larger, '}'])
  found = scaling.tpu_program.once(text).splitlines()
  assert ['all-gather(' in line for line in found] == [
      False, False, True, False, False, False, True, True, False]


def test_the_page_has_the_tables_that_the_script_prints(scaling, capsys, monkeypatch):
  monkeypatch.setattr('sys.argv', ['scaling.py'])
  scaling.main()
  printed = [line for line in capsys.readouterr().out.splitlines() if line]
  page = (tiny.ROOT / 'docs' / 'scaling.md').read_text().splitlines()
  assert len(printed) >= 2 + len(scaling.SLICES)
  assert [line for line in page if line in printed] == printed


def test_stored_programs_are_of_the_config_that_the_page_names(scaling):
  for p in scaling.read():
    assert (p['width'], p['dtype'], p['impl']) == (96, 'bfloat16', 'auto')
    assert p['jax'] and p['libtpu'] and p['date'] and not p['rounds'][-1].get('unknown_loops')


def test_steps_are_those_of_the_config(scaling):
  config = runpy.run_path(tiny.ROOT / 'configs' / 'xmc_gan_coco256.py')['get_config']()
  coco = scaling.RUNS[0]
  assert (coco.steps, coco.length, scaling.BATCH, scaling.PX) == (
      config.steps, config.text.length, config.batch_size, config.model.size)
