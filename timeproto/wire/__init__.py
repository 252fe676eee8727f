"""The verbs: what travels (``messages``) and how it is spelled (``codec``). Pure, without I/O."""
