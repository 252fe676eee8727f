"use strict";
// Two pictures of the time to finality, drawn at the width they have, so that their words keep their size.
const charts = (() => {
  const { s, empty } = parts;
  const H = 200,
    TOP = 18,
    BOTTOM = 26;
  const widthOf = (place) => Math.max(260, Math.min(900, Math.floor(place.clientWidth) || 520));

  // A round number not below ``value``, whose half is a whole number.
  function round(value) {
    const size = 10 ** Math.floor(Math.log10(Math.max(value, 1)));
    return [1, 1.5, 2, 3, 4, 5, 6, 8, 10].map((each) => each * size).find((each) => each >= value && each % 2 === 0);
  }
  // An empty chart with its lines: ``share`` says how far up a value stands, from 0 to 1.
  function frame(W, L, label, values, share, write) {
    const y = (value) => TOP + (H - TOP - BOTTOM) * (1 - share(value));
    const svg = s("svg", { class: "chart", viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": label });
    for (const value of values)
      svg.append(
        s("line", { class: "rule", x1: L, x2: W, y1: y(value), y2: y(value) }),
        s("text", { x: L - 8, y: y(value) + 4, "text-anchor": "end" }, write(value)),
      );
    return { svg, y };
  }

  const EDGES = [5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000];
  const EDGE_NAMES = ["5", "10", "20", "50", "100", "200", "500", "1 s", "2 s", "5 s", "10 s"];
  function histogram(place, finals) {
    const W = widthOf(place),
      L = 34,
      values = finals.map((each) => each.took_ms).sort((a, b) => a - b);
    if (!values.length) return empty("No payment has become final since this node was started.");
    const from = Math.max(
        0,
        EDGES.findIndex((edge) => values[0] < edge),
      ),
      slowest = values[values.length - 1];
    const reach = EDGES.findIndex((edge) => slowest < edge);
    const to = Math.max(from + 5, reach < 0 ? EDGES.length : reach);
    const bins = [];
    for (let at = from; at <= Math.min(to, EDGES.length); at++) {
      const low = at ? EDGES[at - 1] : 0,
        high = at < EDGES.length ? EDGES[at] : Infinity;
      bins.push({
        low,
        high,
        name: at < EDGES.length ? EDGE_NAMES[at] : "more",
        count: values.filter((v) => v >= low && v < high).length,
      });
    }
    const top = Math.max(2, round(Math.max(...bins.map((bin) => bin.count)))),
      step = (W - L) / bins.length;
    const spoken = bins.map((bin) => `${bin.count} under ${bin.name}`).join(", ");
    const { svg, y } = frame(
      W,
      L,
      `Histogram of ${values.length} payments: ${spoken}`,
      [0, top / 2, top],
      (value) => value / top,
      String,
    );
    bins.forEach((bin, at) => {
      if (bin.count)
        svg.append(
          s("rect", {
            class: "bar",
            x: L + at * step + 3,
            width: Math.max(2, step - 6),
            y: y(bin.count),
            height: H - BOTTOM - y(bin.count),
            rx: 3,
          }),
        );
      svg.append(
        s(
          "text",
          { x: L + (at + 0.5) * step, y: H - 8, "text-anchor": "middle" },
          bin.high === Infinity ? "more" : step > 34 ? "<" + bin.name : bin.name.replace(" ", ""),
        ),
      );
    });
    return svg;
  }

  const WINDOWS = [
    [120e3, "2 min"],
    [600e3, "10 min"],
    [3600e3, "1 h"],
    [21600e3, "6 h"],
    [86400e3, "1 d"],
  ];
  function timeline(place, finals) {
    if (!finals.length) return empty("Each payment that becomes final is a dot here.");
    const W = widthOf(place),
      L = 52,
      now = Date.now();
    const enough = finals[Math.max(0, finals.length - 25)].at;
    const [span, name] = WINDOWS.find(([reach]) => now - enough <= reach) || WINDOWS[WINDOWS.length - 1];
    const seen = finals.filter((each) => each.at > now - span),
      times = seen.map((each) => Math.max(1, each.took_ms)).sort((a, b) => a - b);
    if (!seen.length) return empty("No payment has become final for a day.");
    const median = words.percentile(times, 0.5),
      most = times[times.length - 1];
    // A slow one among many fast ones: the scale is logarithmic, from one power of ten to another.
    const low = Math.floor(Math.log10(times[0])),
      high = Math.max(low + 1, Math.ceil(Math.log10(most)));
    const values = [];
    for (let power = low; power <= high; power++)
      values.push(...(high - low === 1 && power === low ? [1, 2, 5] : [1]).map((each) => each * 10 ** power));
    const label = `Time to finality of the newest ${seen.length} payments in ${name}: median ${words.took(median)}, the slowest ${words.took(most)}`;
    const share = (value) => (Math.log10(Math.max(1, value)) - low) / (high - low);
    const { svg, y } = frame(W, L, label, values, share, (value) => (value < 1000 ? `${value} ms` : `${value / 1000} s`));
    const x = (at) => L + (W - L) * Math.min(1, Math.max(0, 1 - (now - at) / span));
    for (const [end, text] of [
      [0, name + " ago"],
      [1, "now"],
    ])
      svg.append(s("text", { x: end ? W : L, y: H - 8, "text-anchor": end ? "end" : "start" }, text));
    for (const each of seen) svg.append(s("circle", { class: "point", cx: x(each.at), cy: y(each.took_ms), r: 3.4 }));
    svg.append(s("line", { class: "mark", x1: L, x2: W, y1: y(median), y2: y(median) }));
    svg.append(
      s("text", { class: "marked", x: L + 4, y: y(median) - 5, "text-anchor": "start" }, "median " + words.took(median)),
    );
    return svg;
  }
  return { histogram, timeline };
})();
