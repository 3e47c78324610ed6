// What tests/programs/test_kveval_page.c has a browser do with a page of results (tests/support/page_results.c): it points,
// clicks, sorts and filters, looks at what came of it, and tells the page around it each thing that is not as it should be.
'use strict';
(() => {
  const seen = [...window.wrong];
  const expect = (what, found, expected) => {
    if (JSON.stringify(found) !== JSON.stringify(expected))
      seen.push(`${what}: found ${JSON.stringify(found)}, expected ${JSON.stringify(expected)}`);
  };
  const one = (selector, from = document) => from.querySelector(selector);
  const all = (selector, from = document) => Array.from(from.querySelectorAll(selector));
  const shown = (element) => element !== null && element.getClientRects().length > 0;
  const scripted = document.documentElement.classList.contains('js');
  const choose = (id, value) => {
    const control = document.getElementById(id);
    control.value = value;
    control.dispatchEvent(new Event(id === 'search' ? 'input' : 'change'));
  };

  // What makes the page wider than its window.
  const wide = () => {
    const width = document.documentElement.scrollWidth;
    if (width <= window.innerWidth) return [];
    const beyond = all('body :not(.scroll *, nav *)').filter((element) => element.getBoundingClientRect().right > window.innerWidth);
    return [width, ...beyond.slice(0, 20).map((element) => `${element.tagName}#${element.id}.${element.getAttribute('class')}`)];
  };

  // ---- With or without a script ----

  const looks = () => {
    expect('wider than the window', wide(), []);
    expect('width', window.innerWidth, 380);
    expect('markup that came in', one('#owned'), null);
    expect('links that lead away', all('[src],[href]').filter((e) => !(e.getAttribute('href') || '').startsWith('#')).length, 0);
    expect('requests', performance.getEntriesByType('resource').length, 0);
    for (const id of ['curve', 'tables', 'budgets', 'errors', 'grid', 'answers', 'about'])
      expect(`section ${id}`, shown(document.getElementById(id)), true);
    expect('one curve for each of five panels', all('.variant').filter(shown).flatMap((v) => all('svg', v)).length, 5);
    expect('points', all('.point').filter(shown).length > 8, true);
    expect('numbers in pictures', all('svg *').some((e) => /nan|inf|undefined/i.test(
      ['d', 'x', 'y', 'r', 'transform', 'points'].map((name) => e.getAttribute(name) || '').join(' '))), false);
    expect('a layer of the base', one('#errors td.own').textContent, '=');
    expect('a layer that is not finite', one('#errors td.none') !== null, true);
    expect('the cell where it is lost', all('#grid table.map')[1].rows[1].cells[2].textContent, '0');
    one('#x-clock').click();
    expect('the clock, chosen', [shown(one('.v-clock-accuracy')), shown(one('.v-exact-accuracy'))], [true, false]);
    one('#x-exact').click();
    one('#y-retention').click();
    expect('what is kept, chosen', [shown(one('.v-exact-retention')), shown(one('.v-exact-accuracy'))], [true, false]);
    one('#y-accuracy').click();
  };

  // ---- Without ----

  const reads = () => {
    expect('first answers', shown(one('#first-answers')), true);
    expect('an answer', all('#first-answers pre').some((pre) => pre.textContent.includes('number 0')), true);
    expect('a point says what it is', one('.point[data-system="1"] title').textContent.startsWith('ours\nfamily: KVP-C (ours)\n'), true);
  };

  // ---- Points ----

  const points = () => {
    const point = all('.v-exact-accuracy .point[data-system="1"]')[0], details = document.getElementById('details');
    const open = () => [shown(details), details.classList.contains('pinned')];
    const row = one('#tables tr[data-system="1"]');
    expect('first answers beside a script', shown(one('#first-answers')), false);
    point.dispatchEvent(new MouseEvent('mouseenter'));
    expect('pointed at', open(), [true, false]);
    expect('its name', one('h3', details).textContent, 'ours');
    expect('its family', one('dd', details).textContent, 'KVP-C (ours)');
    expect('its row', row.classList.contains('hot'), true);
    point.dispatchEvent(new MouseEvent('mouseleave'));
    expect('left', [...open(), row.classList.contains('hot')], [false, false, false]);
    point.focus();
    expect('reached by the keyboard', open(), [true, false]);
    point.blur();
    expect('left by the keyboard', open(), [false, false]);
    point.dispatchEvent(new MouseEvent('click', {bubbles: true}));
    point.dispatchEvent(new MouseEvent('mouseleave'));
    expect('clicked', open(), [true, true]);
    const box = details.getBoundingClientRect();
    expect('in the window', box.left >= 0 && box.right <= window.innerWidth, true);
    document.dispatchEvent(new KeyboardEvent('keydown', {key: 'Escape'}));
    expect('escaped', open(), [false, false]);
    point.dispatchEvent(new KeyboardEvent('keydown', {key: 'Enter'}));
    expect('entered', open(), [true, true]);
    document.body.click();
    expect('clicked elsewhere', open(), [false, false]);
    const family = one('.legend li[data-family="1"]');
    family.click();
    expect('without a family', [shown(point), family.getAttribute('aria-pressed')], [false, 'false']);
    family.click();
    expect('with it again', shown(point), true);
  };

  // ---- Tables ----

  const tables = () => {
    const table = one('#tables table.sortable');
    const column = all('th[data-column]', table).find((header) => header.textContent === 'match');
    const names = () => all('tbody tr', table).map((row) => row.dataset.system).join('');
    const button = one('button', column);
    expect('as it comes', names(), '0123');
    button.click();
    expect('the best first, none last', [names(), column.getAttribute('aria-sort')], ['0123', 'descending']);
    button.click();
    expect('the worst first, none last', [names(), column.getAttribute('aria-sort')], ['2103', 'ascending']);
    button.click();
    expect('as it came', [names(), column.getAttribute('aria-sort')], ['0123', null]);
    const system = all('th[data-column]', table).find((header) => header.textContent === 'system');
    one('button', system).click();
    expect('by name', names().slice(-3), '031');
    one('button', system).click();
    one('button', system).click();
  };

  // ---- Answers ----

  const answers = () => {
    const found = () => document.getElementById('found').textContent;
    const heads = () => all('#list h4').map((head) => head.textContent.slice(-1)).join('');
    choose('task', '0');
    choose('left', '0');
    choose('right', '1');
    expect('all', [found(), heads()], ['6 of 6', '012345']);
    choose('filter', 'left');
    expect('base right, ours wrong', [found(), heads()], ['2 of 6', '23']);
    choose('filter', 'right');
    expect('ours right, base wrong', heads(), '4');
    choose('filter', 'wrong');
    expect('both wrong', heads(), '5');
    choose('filter', 'both');
    expect('both right', heads(), '01');
    choose('filter', 'differ');
    expect('they differ', heads(), '234');
    choose('search', 'SOMETHING OF 4');
    expect('they differ and contain', heads(), '4');
    choose('search', 'nowhere');
    expect('nothing contains', [found(), heads()], ['0 of 6', '']);
    choose('search', '');
    choose('filter', 'all');
    choose('right', '2');
    expect('markup as text', one('#list .answer:last-child pre').textContent.includes('<\/script><b id="owned">\'&amp;'), true);
    expect('verdicts', all('#list .item')[0].querySelectorAll('.right, .wrong').length, 2);
    choose('task', '1');
    choose('right', '1');
    choose('filter', 'left');
    expect('of nats', heads() && found(), '1 of 2');
    expect('what may be asked of nats', all('#filter option').length, 4);
    choose('filter', 'right');
    expect('of nats, the other', found(), '1 of 2');
    choose('filter', 'all');
    choose('task', '3');
    expect('samples', all('#list h4').map((head) => head.textContent).slice(0, 4).join(),
           'Made/0, sample 1,Made/1, sample 1,Made/2, sample 1,Made/0, sample 2');
    choose('task', '4');
    expect('a choice', one('#list pre:not(.prompt)').textContent.startsWith('bird\nlog p: A -1.5'), true);
    expect('wider than the window with answers', wide(), []);
  };

  const look = () => {
    document.documentElement.dataset.theme = 'dark';
    const dark = getComputedStyle(document.body).backgroundColor;
    document.documentElement.dataset.theme = 'light';
    expect('light and dark differ', getComputedStyle(document.body).backgroundColor !== dark, true);
    delete document.documentElement.dataset.theme;
  };

  for (const part of scripted ? [looks, points, tables, answers, look] : [looks, reads])
    try {
      part();
    } catch (error) {
      seen.push(`${part.name}: ${error}`);
    }
  seen.push(...window.wrong);
  window.parent.postMessage(`seen ${scripted ? 'with' : 'without'} a script\n${seen.join('\n')}\nend`, '*');
})();
