"""Windows into a node: the HTTP API, the WebSocket bridge, the live page, metrics.

Nothing is decided here. What is shown comes from the node's view (:mod:`timeproto.web.view`), what wallets ask over a
WebSocket goes to the same dispatcher as over TCP, and whoever stands at this door costs the others nothing: sizes,
times, connections and queues are bounded in :mod:`timeproto.web.bounds`.
"""
