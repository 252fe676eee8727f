"use strict";
// Finding the way: views by the hash of the address, the search, the keyboard, the colours.
(() => {
  const { $ } = parts;
  const VIEWS = {
    "": dashboard,
    tx: transaction.view,
    address: places.address,
    coin: places.coin,
    block: places.block,
    check: places.check,
  };
  const main = $("main");

  // What a view is given: where to draw, and ways to draw later that end with the view.
  let visit = 0,
    leave = () => {},
    moved = false;
  function visitor() {
    const mine = ++visit,
      left = () => mine !== visit;
    return {
      left,
      show(title, ...content) {
        if (left()) return;
        main.replaceChildren(...content.flat(Infinity).filter(Boolean));
        document.title = title + " · timeproto";
      },
      failed(what, id, error) {
        places.failed(this, what, id, error);
      },
      // Every so many seconds, while the page is seen. Returns how to stop.
      every(seconds, task) {
        const timer = setInterval(() => {
          if (!document.hidden && !left()) task();
        }, seconds * 1000);
        return () => clearInterval(timer);
      },
      // Many events, one drawing.
      gently(draw, pause = 150) {
        let due = null;
        return () => {
          if (due === null)
            due = setTimeout(() => {
              due = null;
              if (!left()) draw();
            }, pause);
        };
      },
    };
  }
  async function go() {
    const [name, ...rest] = location.hash
      .replace(/^#\/?/, "")
      .split("/")
      .map((each) => {
        try {
          return decodeURIComponent(each);
        } catch {
          return each;
        }
      });
    leave();
    leave = () => {};
    const page = visitor(),
      view = Object.hasOwn(VIEWS, name) ? VIEWS[name] : places.nowhere;
    const ended = await view(page, ...rest);
    if (page.left()) {
      ended();
      return;
    }
    leave = ended;
    if (moved && document.activeElement !== $("query")) {
      const head = main.querySelector("h1");
      if (head) head.focus({ preventScroll: true });
      scrollTo(0, 0);
    }
    moved = true;
  }

  // -- the search ------------------------------------------------------------------------------------
  function placeOf(query) {
    if (/^\d{1,18}$/.test(query)) return ["block", query];
    if (/^[0-9a-f]{64}$/i.test(query)) return ["tx", query.toLowerCase()];
    if (/^[0-9a-f]{64}:\d{1,10}$/i.test(query)) return ["coin", query.toLowerCase()];
    return /^TIME\w+$/.test(query) ? ["address", query] : null;
  }
  function complain(text) {
    $("hint").textContent = text;
    if (text) $("query").setAttribute("aria-invalid", "true");
    else $("query").removeAttribute("aria-invalid");
  }
  $("search").addEventListener("submit", (event) => {
    event.preventDefault();
    const query = $("query").value.trim(),
      place = placeOf(query);
    if (!place) {
      complain(query ? "That is no txid, address, coin (txid:vout) or height." : "");
      return;
    }
    complain("");
    location.hash = parts.to(...place);
    $("query").blur();
  });
  $("query").addEventListener("input", () => complain(""));
  $("query").addEventListener("blur", () => complain(""));
  $("skip").addEventListener("click", (event) => {
    event.preventDefault();
    main.focus();
  });
  addEventListener("keydown", (event) => {
    const typing = /^(INPUT|TEXTAREA)$/.test(document.activeElement.tagName);
    if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
      event.preventDefault();
      $("query").focus();
      $("query").select();
    }
    if (event.key === "Escape" && document.activeElement === $("query")) $("query").blur();
  });

  // -- the colours -----------------------------------------------------------------------------------
  const dark = matchMedia("(prefers-color-scheme: dark)");
  let theme = null;
  try {
    theme = localStorage.getItem("theme");
  } catch {
    /* the system decides */
  }
  function paint() {
    const now = theme || (dark.matches ? "dark" : "light"),
      other = now === "dark" ? "Light colours" : "Dark colours";
    document.documentElement.dataset.theme = now;
    $("theme").setAttribute("aria-label", other);
    $("theme").title = other;
  }
  $("theme").addEventListener("click", () => {
    theme = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
    try {
      localStorage.setItem("theme", theme);
    } catch {
      /* for this visit */
    }
    paint();
  });
  dark.addEventListener("change", paint);
  paint();
  addEventListener("hashchange", go);
  node.start().then(go);
})();
