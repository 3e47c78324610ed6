// What a page of results (eval/html/page.c) does beyond being read: details of a point, sorting, and answers side by side. All
// that it shows comes from the page, and as text: nothing is ever parsed as markup.
'use strict';
(() => {
  const root = document.documentElement;
  root.classList.add('js');
  const all = (selector, from = document) => Array.from(from.querySelectorAll(selector));
  const make = (tag, text, className) => {
    const element = document.createElement(tag);
    if (text !== undefined) element.textContent = text;
    if (className) element.className = className;
    return element;
  };

  // ---- Light and dark ----

  const theme = make('button', 'light / dark');
  theme.id = 'theme';
  theme.type = 'button';
  theme.addEventListener('click', () => {
    const dark = root.dataset.theme ? root.dataset.theme === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches;
    root.dataset.theme = dark ? 'light' : 'dark';
  });
  document.querySelector('header').prepend(theme);

  // ---- Details of a point ----

  const details = document.getElementById('details');
  let pinned = null;

  const warm = (system, on) => {
    for (const element of all(`[data-system="${CSS.escape(system)}"]`)) element.classList.toggle('hot', on);
  };

  // Beside the point, inside its stage: to the left where there is no room to the right.
  const place = (point) => {
    const stage = details.parentElement.getBoundingClientRect(), own = point.querySelector('.hit').getBoundingClientRect();
    const width = details.offsetWidth, height = details.offsetHeight;
    let left = own.right - stage.left + 8;
    if (left + width > stage.width) left = own.left - stage.left - width - 8;
    if (left < 0) left = Math.max(0, Math.min(stage.width - width, own.left - stage.left - width / 2));
    const covers = left < own.right - stage.left && left + width > own.left - stage.left;
    let top = covers ? own.bottom - stage.top + 8 : own.top - stage.top - height / 2;
    details.style.left = `${left}px`;
    details.style.top = `${Math.max(0, top)}px`;
  };

  const show = (point) => {
    const [name, ...lines] = point.dataset.text.split('\n');
    const list = make('dl');
    for (const line of lines) {
      const colon = line.indexOf(': ');
      list.append(make('dt', colon < 0 ? line : line.slice(0, colon)), make('dd', colon < 0 ? '' : line.slice(colon + 2)));
    }
    details.replaceChildren(make('h3', name), list);
    details.classList.add('open');
    details.classList.toggle('pinned', pinned === point);
    place(point);
    warm(point.dataset.system, true);
  };

  const hide = (point) => {
    if (point) warm(point.dataset.system, false);
    if (pinned) return show(pinned);
    details.classList.remove('open', 'pinned');
  };

  const unpin = () => {
    const point = pinned;
    pinned = null;
    if (point) point.classList.remove('pinned');
    hide(point);
  };

  const pin = (point) => {
    const again = pinned === point;
    unpin();
    if (again) return;
    pinned = point;
    point.classList.add('pinned');
    show(point);
  };

  for (const point of all('.point')) {
    const title = point.querySelector('title');
    point.dataset.text = title.textContent;
    point.setAttribute('aria-label', title.textContent.replaceAll('\n', '; '));
    point.setAttribute('role', 'button');
    title.remove();
    point.addEventListener('mouseenter', () => show(point));
    point.addEventListener('mouseleave', () => hide(point));
    point.addEventListener('focus', () => show(point));
    point.addEventListener('blur', () => hide(point));
    point.addEventListener('click', (event) => { event.stopPropagation(); pin(point); });
    point.addEventListener('keydown', (event) => {
      if (event.key !== 'Enter' && event.key !== ' ') return;
      event.preventDefault();
      pin(point);
    });
  }
  if (details) {
    document.addEventListener('click', (event) => { if (!details.contains(event.target)) unpin(); });
    document.addEventListener('keydown', (event) => { if (event.key === 'Escape') unpin(); });
    for (const input of all('.choices input')) input.addEventListener('change', unpin);
  }

  // ---- Families ----

  for (const entry of all('.legend li[data-family]')) {
    entry.tabIndex = 0;
    entry.setAttribute('role', 'button');
    entry.setAttribute('aria-pressed', 'true');
    const toggle = () => {
      const on = entry.getAttribute('aria-pressed') !== 'true';
      entry.setAttribute('aria-pressed', String(on));
      for (const element of all(`#curve .f${entry.dataset.family}`)) element.classList.toggle('off', !on);
    };
    entry.addEventListener('click', toggle);
    entry.addEventListener('keydown', (event) => {
      if (event.key !== 'Enter' && event.key !== ' ') return;
      event.preventDefault();
      toggle();
    });
  }

  // ---- Sorting ----

  // What is not known comes last, whichever way.
  const compare = (a, b, down) => {
    if (a.none !== b.none) return a.none ? 1 : -1;
    const order = a.none ? 0 : typeof a.key === 'number' ? a.key - b.key : a.key.localeCompare(b.key);
    return (down ? -order : order) || a.place - b.place;
  };

  const keyOf = (row, column, place, numbers) => {
    const cell = row.cells[column], text = cell.textContent.trim();
    if (!numbers) return {row, place, key: text, none: text === '' || text === '-'};
    return {row, place, key: Number(cell.dataset.sort), none: cell.dataset.sort === undefined};
  };

  const sort = (table, header, column) => {
    const before = header.getAttribute('aria-sort');
    const numbers = header.dataset.kind === 'number';
    const first = numbers ? 'descending' : 'ascending', second = numbers ? 'ascending' : 'descending';
    const now = before === first ? second : before === second ? null : first;
    for (const other of all('th[aria-sort]', table)) other.removeAttribute('aria-sort');
    if (now) header.setAttribute('aria-sort', now);
    const body = table.tBodies[0];
    const keys = table.original.map((row, place) => keyOf(row, column, place, numbers));
    if (now) keys.sort((a, b) => compare(a, b, now === 'descending'));
    body.append(...keys.map((key) => key.row));
  };

  for (const table of all('table.sortable')) {
    table.original = Array.from(table.tBodies[0].rows);
    for (const header of all('th[data-column]', table)) {
      const button = make('button', header.textContent);
      button.type = 'button';
      button.title = 'sort';
      header.replaceChildren(button);
      button.addEventListener('click', () => sort(table, header, Number(header.dataset.column)));
    }
  }

  // ---- Answers ----

  const browser = document.getElementById('browser');
  const names = document.getElementById('names') && JSON.parse(document.getElementById('names').textContent);
  if (!browser || !names || !names.tasks.length) return;

  const cache = new Map();
  const dataOf = (task) => {
    if (!cache.has(task)) cache.set(task, JSON.parse(document.getElementById(`answers-${task}`).textContent));
    return cache.get(task);
  };

  const option = (value, text) => {
    const element = make('option', text);
    element.value = String(value);
    return element;
  };
  const labelled = (text, control) => {
    const label = make('label', text);
    label.append(control);
    controls.append(label);
    return control;
  };

  const PAGE = 25;
  const controls = make('div', undefined, 'controls'), found = make('p'), list = make('div');
  const more = make('button', '', 'more');
  const task = labelled('task', make('select')), left = labelled('left', make('select')),
        right = labelled('right', make('select')), filter = labelled('show', make('select')),
        search = labelled('that contain', make('input'));
  task.id = 'task'; left.id = 'left'; right.id = 'right'; filter.id = 'filter'; search.id = 'search'; found.id = 'found'; more.id = 'more';
  list.id = 'list';
  search.type = 'search';
  more.type = 'button';
  found.setAttribute('role', 'status');
  browser.append(controls, found, list, more);
  browser.hidden = false;
  names.tasks.forEach((name, i) => task.append(option(i, name)));

  let shown = [], drawn = 0;
  const of = (select) => dataOf(task.value).systems[Number(select.value)];
  const nameOf = (answers) => names.systems[answers.system];

  // What may be asked of two systems: of right and wrong, or of which is better.
  const filters = () => {
    if (!dataOf(task.value).systems.length) return [['all', 'all']];
    const a = nameOf(of(left)), b = nameOf(of(right));
    return dataOf(task.value).share
      ? [['all', 'all'], ['left', `${a} right, ${b} wrong`], ['right', `${b} right, ${a} wrong`], ['wrong', 'both wrong'],
         ['both', 'both right'], ['differ', 'answers differ']]
      : [['all', 'all'], ['left', `${a} better`], ['right', `${b} better`], ['differ', 'answers differ']];
  };

  const passes = (kind, share, i, a, b) => {
    const x = a.verdicts[i], y = b.verdicts[i];
    switch (kind) {
    case 'left': return share ? x === 1 && y === 0 : x !== null && y !== null && x > y;
    case 'right': return share ? y === 1 && x === 0 : x !== null && y !== null && y > x;
    case 'wrong': return x === 0 && y === 0;
    case 'both': return x === 1 && y === 1;
    case 'differ': return a.texts[i] !== b.texts[i];
    default: return true;
    }
  };

  const side = (answers, i, share) => {
    const box = make('div', undefined, 'answer'), head = make('h5', `${nameOf(answers)} `);
    const verdict = answers.verdicts[i];
    if (share && verdict !== null) head.append(verdict ? make('span', '✓ right', 'right') : make('span', '✗ wrong', 'wrong'));
    box.append(head, make('pre', answers.texts[i]));
    return box;
  };

  const draw = () => {
    const data = dataOf(task.value), end = Math.min(shown.length, drawn + PAGE);
    for (; drawn < end; drawn++) {
      const i = shown[drawn], [head, prompt, expected] = data.questions[i];
      const item = make('article', undefined, 'item'), sides = make('div', undefined, 'sides');
      item.append(make('h4', head));
      if (prompt) item.append(make('pre', prompt, 'prompt'));
      if (expected) item.append(make('p', `expected: ${expected}`, 'expected'));
      sides.append(side(of(left), i, data.share), side(of(right), i, data.share));
      item.append(sides);
      list.append(item);
    }
    more.hidden = drawn >= shown.length;
    more.textContent = `show ${Math.min(PAGE, shown.length - drawn)} more of ${shown.length - drawn}`;
  };

  const update = () => {
    const data = dataOf(task.value), kind = filter.value, word = search.value.toLowerCase();
    shown = [];
    drawn = 0;
    list.replaceChildren();
    if (!data.systems.length) {
      found.textContent = 'no system answered';
      more.hidden = true;
      return;
    }
    const a = of(left), b = of(right);
    const contains = (i) => !word || [...data.questions[i], a.texts[i], b.texts[i]].some((text) => text.toLowerCase().includes(word));
    data.questions.forEach((question, i) => { if (passes(kind, data.share, i, a, b) && contains(i)) shown.push(i); });
    const n = data.questions.length;
    found.textContent = `${shown.length} of ${n}${n < data.total ? ` in this page (of ${data.total} asked)` : ''}`;
    draw();
  };

  const setFilters = () => {
    const before = filter.value;
    filter.replaceChildren(...filters().map(([value, text]) => option(value, text)));
    if (Array.from(filter.options).some((entry) => entry.value === before)) filter.value = before;
    update();
  };

  // The first system, which is a base as a rule, beside the last.
  const setTask = () => {
    const systems = dataOf(task.value).systems;
    for (const select of [left, right]) {
      const before = select.selectedOptions.length ? select.selectedOptions[0].textContent : null;
      select.replaceChildren(...systems.map((answers, i) => option(i, nameOf(answers))));
      const same = systems.findIndex((answers) => nameOf(answers) === before);
      if (systems.length) select.value = String(same >= 0 ? same : select === left ? 0 : systems.length - 1);
    }
    setFilters();
  };

  task.addEventListener('change', setTask);
  left.addEventListener('change', setFilters);
  right.addEventListener('change', setFilters);
  filter.addEventListener('change', update);
  search.addEventListener('input', update);
  more.addEventListener('click', draw);
  setTask();
})();
