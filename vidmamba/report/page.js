"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  const data = JSON.parse($("data").textContent);
  const duration = data.duration || 1e-3;
  const video = document.querySelector("video");
  const [frame, strip, axis, overview, tip] = ["window", "strip", "axis", "overview", "tip"].map($);
  const rows = [...document.querySelectorAll("#segments .row")];
  const captionRows = [...document.querySelectorAll("#captions .row")];
  document.documentElement.classList.add("js");

  // ---- the clock: the video's, or one of our own where there is no video
  let idle = 0;
  const now = () => (video ? video.currentTime : idle);
  const seek = (time) => {
    const target = Math.min(Math.max(time, 0), duration);
    if (video) video.currentTime = target;
    else idle = target;
    update();
  };
  // a hair behind its start, where the rounding of clocks cannot fall back into the one before
  const enter = ([start, end]) => seek(start + Math.min(1e-3, (end - start) / 2));

  if (video) {
    const source = video.querySelector("source");
    const [kind, text] = source.src.split(";base64,");
    const fail = () => { $("broken").hidden = false; };
    video.addEventListener("error", fail);
    if (text === undefined) source.addEventListener("error", fail);
    else {
      // a blob can be searched through by every browser, a data: URL not in Safari
      const binary = atob(text);
      const bytes = new Uint8Array(binary.length);
      for (let k = 0; k < bytes.length; k++) bytes[k] = binary.charCodeAt(k);
      video.src = URL.createObjectURL(new Blob([bytes], { type: kind.slice(5) }));
      source.remove();
    }
    for (const name of ["timeupdate", "seeking", "seeked", "loadedmetadata"])
      video.addEventListener(name, () => update());
    const tick = () => { update(); if (!video.paused) requestAnimationFrame(tick); };
    video.addEventListener("play", tick);
  }

  // ---- what is on at a time
  const clock = (seconds, digits = 1) => {
    const ticks = Math.floor(seconds * 10 ** digits + 1e-6);
    const whole = Math.floor(ticks / 10 ** digits);
    const pad = (value) => String(value).padStart(2, "0");
    const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
    const rest = digits ? "." + String(ticks % 10 ** digits).padStart(digits, "0") : "";
    return (h ? `${h}:${pad(m)}` : `${m}`) + `:${pad(s)}${rest}`;
  };
  /** Index of the last span that starts at or before a time, -1 before the first. */
  const before = (spans, time) => {
    let [low, high] = [0, spans.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (spans[middle][0] <= time) low = middle + 1; else high = middle;
    }
    return low - 1;
  };
  const at = (spans, time) => {
    const k = before(spans, time);
    // the last frame stays on screen when the video has ended
    return k >= 0 && (time < spans[k][1] || (time >= duration - 1e-3 && k === spans.length - 1)) ? k : -1;
  };
  const make = (tag, className, ...children) => {
    const node = document.createElement(tag);
    if (className) node.className = className;
    node.append(...children);
    return node;
  };
  const chip = (k) => make("span", `chip ${data.looks[k]}`, make("b", "", String(k + 1)));
  const percent = (score) => (score === null ? "" : score >= 0 && score <= 1
    ? `${Math.round(score * 100)}%` : String(Math.round(score * 100) / 100));

  // ---- following
  let current = -2, trueNow = -2, captionsNow = "", touched = 0;
  const follow = (list, row) => {
    if (!row || Date.now() - touched < 3000) return;
    const box = list.parentElement.closest(".rows") || list;
    const [top, bottom] = [row.offsetTop, row.offsetTop + row.offsetHeight];
    if (top < box.scrollTop || bottom > box.scrollTop + box.clientHeight)
      box.scrollTop = top - box.clientHeight / 3;
  };
  const mark = (list, on) => {
    list.forEach((row, k) => {
      if (on.includes(k)) row.setAttribute("aria-current", "true");
      else if (row.hasAttribute("aria-current")) row.removeAttribute("aria-current");
    });
  };
  const describe = (time) => {
    const k = at(data.predicted, time);
    const [start, end, label, score] = k < 0 ? [] : data.predicted[k];
    const truth = data.truth && at(data.truth, time);
    const first = make("div", "", make("span", "clock", clock(time)));
    const second = make("div", "");
    if (k < 0) first.append(make("span", "quiet", "no segment"));
    else {
      first.append(chip(label), make("strong", "", data.names[label]));
      second.append(make("span", "", `${clock(start)} – ${clock(end)}`), make("span", "", percent(score)));
    }
    if (data.truth) {
      const real = truth < 0 ? "no segment" : data.names[data.truth[truth][2]];
      const same = (truth < 0) === (k < 0) && (k < 0 || data.truth[truth][2] === label);
      second.append(make("span", "", same ? "✓ as true" : `✗ true: ${real}`));
    }
    return [first, second];
  };
  const update = () => {
    const time = now();
    const share = `${Math.min((time / duration) * 100, 100)}%`;
    for (const head of document.querySelectorAll(".head")) head.style.left = share;
    const parts = describe(time);
    const told = parts.flatMap((part) => [...part.children].map((node) => node.textContent)).join(" ");
    if ($("now").dataset.told !== told) {
      $("now").dataset.told = told;
      $("now").replaceChildren(...parts);
      frame.setAttribute("aria-valuenow", time.toFixed(1));
      frame.setAttribute("aria-valuetext", told);
    }
    const k = at(data.predicted, time);
    if (k !== current) {
      const held = rows.includes(document.activeElement);
      mark(rows, [k]);
      const stop = rows[Math.max(before(data.predicted, time), 0)];
      rows.forEach((row) => { row.tabIndex = row === stop ? 0 : -1; });
      if (held) stop.focus({ preventScroll: true });
      current = k;
      if (rows.length) follow($("segments"), rows[k]);
    }
    const said = data.captions.flatMap(([start, end], c) => (start <= time && time < end ? [c] : []));
    if (said.join() !== captionsNow) {
      mark(captionRows, said);
      captionsNow = said.join();
      follow($("captions"), captionRows[said[0]]);
    }
    const [left, width] = [frame.scrollLeft, frame.clientWidth];
    const x = (time / duration) * strip.offsetWidth;
    if (zoom > 1 && Date.now() - touched > 3000 && (x < left || x > left + width * 0.9))
      frame.scrollLeft = x - width * 0.15;
  };

  // ---- zoom
  let zoom = 1;
  const most = Math.max(1, 2 ** Math.ceil(Math.log2(duration / 4)));
  const steps = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200];
  const drawAxis = () => {
    const least = (duration / strip.offsetWidth) * 76;
    const step = steps.find((value) => value >= least) || Math.ceil(least / 3600) * 3600;
    axis.replaceChildren();
    for (let k = 0; k * step < duration - step * 0.3 || k === 0; k++) {
      const node = make("span", "", clock(k * step, step < 1 ? 1 : 0));
      node.style.left = `${((k * step) / duration) * 100}%`;
      axis.append(node);
    }
  };
  const showView = () => {
    const view = overview.querySelector(".view");
    view.style.left = `${(frame.scrollLeft / strip.offsetWidth) * 100}%`;
    view.style.width = `${(frame.clientWidth / strip.offsetWidth) * 100}%`;
  };
  const setZoom = (value) => {
    zoom = Math.min(Math.max(value, 1), most);
    strip.style.width = `${zoom * 100}%`;
    $("zoom").textContent = `${zoom}×`;
    $("out").disabled = zoom <= 1;
    $("in").disabled = zoom >= most;
    overview.hidden = zoom <= 1;
    drawAxis();
    frame.scrollLeft = (now() / duration) * strip.offsetWidth - frame.clientWidth / 2;
    showView();
    const pixel = duration / strip.offsetWidth;
    fit();
  };
  const fit = () => {
    const scale = strip.offsetWidth / duration;
    for (const node of strip.querySelectorAll(".seg")) {
      const width = Number(node.dataset.s) * scale;
      node.classList.toggle("tight", width < 4);
      node.classList.toggle("numbered", width >= (node.textContent.search(/\D/) < 3 ? 27 : 36));
      node.classList.toggle("named", width >= 64);
    }
  };
  for (const lane of strip.querySelectorAll(".lane")) {
    const thin = lane.cloneNode(false);
    thin.append(...[...lane.children].map((node) => node.cloneNode(false)));
    overview.append(thin);
  }
  overview.append(make("div", "head"), make("div", "view"));
  const lengths = data.predicted.map(([start, end]) => end - start).sort((a, b) => a - b);
  const typical = lengths[lengths.length >> 1] || duration;
  // half of the segments are wide enough for their number
  const wanted = (26 * duration) / (typical * Math.max(frame.clientWidth, 1));
  setZoom(wanted > 1.2 ? 2 ** Math.ceil(Math.log2(wanted)) : 1);
  $("out").addEventListener("click", () => setZoom(zoom / 2));
  $("in").addEventListener("click", () => setZoom(zoom * 2));
  frame.addEventListener("scroll", showView);
  addEventListener("resize", () => { drawAxis(); showView(); fit(); });

  // ---- pointer
  const timeAt = (node, event) => {
    const box = node.getBoundingClientRect();
    return Math.min(Math.max((event.clientX - box.left) / box.width, 0), 1) * duration;
  };
  const press = (outer, inner) => {
    let down = false;
    outer.addEventListener("click", (event) => { touched = 0; seek(timeAt(inner, event)); });
    outer.addEventListener("pointerdown", (event) => {
      down = event.pointerType === "mouse" || outer === overview;
    });
    outer.addEventListener("pointermove", (event) => {
      if (down && event.buttons) { touched = 0; seek(timeAt(inner, event)); }
      if (event.pointerType === "mouse") showTip(event, timeAt(inner, event));
    });
    outer.addEventListener("pointerleave", () => { down = false; tip.hidden = true; });
    addEventListener("pointerup", () => { down = false; });
  };
  const showTip = (event, time) => {
    const lines = [make("div", "", clock(time))];
    for (const [name, spans] of [["Predicted", data.predicted], ["True", data.truth]]) {
      if (!spans) continue;
      const k = at(spans, time);
      const [start, end, label, score] = k < 0 ? [] : spans[k];
      lines.push(make("div", "", k < 0 ? `${name}: no segment` :
        `${name}: ${label + 1} ${data.names[label]}, ${clock(start)} – ${clock(end)}` +
        (name === "Predicted" && percent(score) ? `, ${percent(score)}` : "")));
    }
    tip.replaceChildren(...lines);
    tip.hidden = false;
    const x = Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8);
    const above = event.clientY - tip.offsetHeight - 14;
    tip.style.transform = `translate(${Math.max(x, 8)}px, ${above > 4 ? above : event.clientY + 18}px)`;
  };
  press(frame, strip);
  press(overview, overview);
  for (const list of document.querySelectorAll(".rows, .window"))
    for (const name of ["wheel", "touchmove"])
      list.addEventListener(name, () => { touched = Date.now(); }, { passive: true });
  rows.forEach((row, k) => row.addEventListener("click", () => { touched = 0; enter(data.predicted[k]); }));
  captionRows.forEach((row, k) => row.addEventListener("click", () => enter(data.captions[k])));
  for (const button of document.querySelectorAll("#legend button"))
    button.addEventListener("click", () => {
      const label = Number(button.dataset.k);
      const same = data.predicted.filter((segment) => segment[2] === label);
      const next = same.find((segment) => segment[0] > now()) || same[0];
      touched = 0;
      if (next) enter(next);
    });
  // after the mouse, the keys are the player's again; after the keyboard, the focus stays
  document.addEventListener("click", (event) => {
    if (event.detail && event.target.closest("button, video")) event.target.closest("button, video").blur();
  });

  // ---- keys; the video's own controls keep theirs
  const step = (by) => {
    const k = before(data.predicted, now());
    const next = data.predicted[Math.min(Math.max(k + by, 0), data.predicted.length - 1)];
    touched = 0;
    if (next) enter(next);
  };
  document.addEventListener("keydown", (event) => {
    if (event.target === video || event.ctrlKey || event.metaKey || event.altKey) return;
    const c = captionRows.indexOf(event.target);
    if (c >= 0 && (event.key === "ArrowDown" || event.key === "ArrowUp")) {
      const next = captionRows[c + (event.key === "ArrowDown" ? 1 : -1)];
      if (next) { captionRows[c].tabIndex = -1; next.tabIndex = 0; next.focus(); }
      event.preventDefault();
      return;
    }
    const within = event.target === frame || rows.includes(event.target);
    const act = {
      " ": () => video && (video.paused ? video.play().catch(() => {}) : video.pause()),
      ArrowLeft: () => seek(now() - (event.shiftKey ? 10 : 1)),
      ArrowRight: () => seek(now() + (event.shiftKey ? 10 : 1)),
      n: () => step(1), N: () => step(1), p: () => step(-1), P: () => step(-1),
      "+": () => setZoom(zoom * 2), "=": () => setZoom(zoom * 2), "-": () => setZoom(zoom / 2),
      ...(within && {
        ArrowDown: () => step(1), ArrowUp: () => step(-1),
        Home: () => seek(0), End: () => seek(duration),
      }),
    }[event.key];
    if (!act || (event.key === " " && event.target.closest("button"))) return;
    event.preventDefault();
    touched = 0;
    act();
  });
  update();
})();
