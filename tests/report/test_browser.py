"""The pages in a browser, at three widths: nothing is cut, tables sort, and the pointer shows values."""

import shutil

import numpy as np
import pytest
from example_run import make_folder, make_population, make_retraining, make_row, make_search

from beta_darts_jax import DARTS, report
from beta_darts_jax.config import default
from beta_darts_jax.spaces.published import PUBLISHED

pytestmark = pytest.mark.full
CHROMIUM = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), None)
OPTIONS = (
  '--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking '
  '--disable-component-update --disable-sync'
)
# texts that are smaller than 11 pixels, or that leave the screen or their figure
MISTAKES = """() => {
  const isMistake = part => {
    const svg = part.ownerSVGElement, box = part.getBoundingClientRect();
    if (!part.textContent.trim() || !box.width) return false;
    const scale = svg ? Math.hypot(part.getScreenCTM().a, part.getScreenCTM().b) : 1;
    const frame = svg ? svg.getBoundingClientRect() : {left: 0, right: innerWidth};
    const isSmall = parseFloat(getComputedStyle(part).fontSize) * scale < 10.99;
    return isSmall || box.left < frame.left - 1 || box.right > Math.min(frame.right, innerWidth) + 1;
  };
  const parts = document.querySelectorAll('svg text, h1, h2, h3, p, th, td, dt, dd, pre, summary, figcaption, span');
  return [...parts].filter(isMistake).map(part => part.textContent.trim());
}"""


@pytest.fixture(scope='module')
def browser(tmp_path_factory):
  """A tab of a browser, and the list of its errors and of its requests to other places."""
  if CHROMIUM is None:
    pytest.skip('no Chromium on this machine: apt-get install chromium')
  sync_api = pytest.importorskip('playwright.sync_api', reason='playwright is not installed')
  with sync_api.sync_playwright() as playwright:
    context = playwright.chromium.launch_persistent_context(
      tmp_path_factory.mktemp('user_data'), executable_path=CHROMIUM, args=OPTIONS.split()
    )
    (tab, *_), mistakes = context.pages, []
    tab.on('console', lambda message: mistakes.append(message.text))
    tab.on('pageerror', lambda error: mistakes.append(str(error)))
    tab.on('request', lambda request: None if request.url.startswith('file:') else mistakes.append(request.url))
    yield tab, mistakes
    context.close()


@pytest.fixture(scope='module')
def pages(tmp_path_factory):
  """{kind: page} of made-up runs."""
  runs = tmp_path_factory.mktemp('runs')
  search, population, trained = make_search(runs / 'a'), make_population(runs / 'b'), make_retraining(runs / 'c')
  config = default()
  config.space.name, shape = 'darts', DARTS.alpha_shape
  betas = {name: np.random.default_rng(0).dirichlet(np.ones(shape[1]), shape[0]).tolist() for name in DARTS.cell_types}
  row = make_row(0, genotype=str(PUBLISHED['DARTS_V2']), betas=betas, benchmark=None, diagnostics={})
  darts = make_folder(runs / 'darts', [row], config=config)
  written = {folder.name: report.write([folder]) for folder in (search, population, trained, darts)}
  several = report.write([search, population, trained, darts], out=runs / 'several.html')
  return written | {'several': several, 'index': report.write([runs])}


@pytest.mark.parametrize('width', [400, 800, 1400])
@pytest.mark.parametrize('kind', ['a', 'b', 'c', 'darts', 'several', 'index'])
def test_nothing_is_cut_or_small_and_the_page_has_no_errors(browser, pages, kind, width):
  tab, mistakes = browser
  tab.set_viewport_size({'width': width, 'height': 900})
  tab.goto(pages[kind].as_uri())
  for summary in tab.query_selector_all('summary'):
    summary.click()
  assert tab.evaluate('document.documentElement.scrollWidth') <= width
  assert tab.evaluate(MISTAKES) == [] and mistakes == []


def test_a_click_on_the_head_of_a_column_sorts_the_members(browser, pages):
  tab, mistakes = browser
  tab.set_viewport_size({'width': 1400, 'height': 900})
  tab.goto(pages['b'].as_uri())

  def accuracies():
    return tab.locator('td[data-name="cifar10 test, %"]').all_text_contents()

  known = sorted(filter(None, accuracies()))
  button = tab.get_by_role('button', name='cifar10 test, %')
  button.click()
  assert accuracies() == [*known, '']  # the member without a cell is the last one
  button.click()
  assert accuracies() == [*known[::-1], ''] and mistakes == []


def test_the_pointer_shows_the_values_of_an_epoch(browser, pages):
  tab, mistakes = browser
  tab.goto(pages['a'].as_uri())
  panel = tab.locator('.training svg').first
  box = panel.bounding_box()
  panel.hover(position={'x': 0.55 * box['width'], 'y': 0.5 * box['height']})
  text = tab.locator('#tip').text_content()
  assert tab.locator('#tip').is_visible() and text.splitlines() == ['epoch 2', 'train loss 1', 'valid loss 2.5']
  tab.mouse.move(1, 1)
  assert tab.locator('#tip').is_hidden() and mistakes == []
  assert 'nor_conv_3x3, β' in tab.locator('.cell svg title').first.text_content()
