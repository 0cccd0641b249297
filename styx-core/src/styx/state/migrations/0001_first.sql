-- The first shape of the state database. Columns whose text is {"v": N, "d": ...} are JSON with their own version.

CREATE TABLE meta (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE generations (
    slug TEXT PRIMARY KEY,
    used INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE clusters (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    workspace TEXT NOT NULL,
    owner TEXT NOT NULL,
    state TEXT NOT NULL,
    note TEXT,
    place TEXT,
    num_nodes INTEGER NOT NULL,
    backend TEXT NOT NULL,
    nodes TEXT NOT NULL,
    seen_at TEXT,
    offer TEXT,
    resources TEXT NOT NULL,
    task TEXT NOT NULL,
    lease TEXT NOT NULL,
    ports TEXT NOT NULL,
    usd_per_hour REAL,
    created_at TEXT NOT NULL,
    last_use_at TEXT NOT NULL,
    ended_at TEXT,
    holder TEXT,
    epoch INTEGER NOT NULL,
    lease_until REAL NOT NULL
);
CREATE UNIQUE INDEX clusters_live_name ON clusters (workspace, name) WHERE state <> 'TERMINATED';
CREATE INDEX clusters_name ON clusters (name, workspace, id);

CREATE TABLE attempts (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    cluster TEXT NOT NULL,
    operation TEXT NOT NULL,
    token TEXT NOT NULL,
    place TEXT NOT NULL,
    offer TEXT NOT NULL,
    count INTEGER NOT NULL,
    state TEXT NOT NULL,
    started_at TEXT NOT NULL,
    ended_at TEXT,
    error TEXT,
    scope TEXT,
    message TEXT,
    vendor_code TEXT,
    vendor_message TEXT,
    request_id TEXT
);
CREATE INDEX attempts_cluster ON attempts (cluster, id);

CREATE TABLE events (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    cluster TEXT NOT NULL,
    operation TEXT NOT NULL,
    step TEXT NOT NULL,
    phase TEXT NOT NULL,
    at TEXT NOT NULL,
    message TEXT NOT NULL,
    data TEXT NOT NULL
);
CREATE INDEX events_cluster ON events (cluster, seq);

CREATE TABLE rates (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    cluster TEXT NOT NULL,
    node TEXT NOT NULL,
    rank INTEGER NOT NULL,
    place TEXT NOT NULL,
    item TEXT NOT NULL,
    usd_per_hour REAL,
    start TEXT NOT NULL,
    "end" TEXT,
    reported INTEGER NOT NULL
);
CREATE INDEX rates_cluster ON rates (cluster, start);
CREATE UNIQUE INDEX rates_open ON rates (cluster, node, item) WHERE "end" IS NULL;
CREATE INDEX rates_end ON rates ("end");

CREATE TABLE jobs (
    cluster TEXT NOT NULL,
    job_id INTEGER NOT NULL,
    name TEXT,
    user TEXT NOT NULL,
    task_id TEXT NOT NULL,
    state TEXT NOT NULL,
    exit_code INTEGER,
    reason TEXT,
    num_nodes INTEGER NOT NULL,
    submitted_at TEXT,
    started_at TEXT,
    ended_at TEXT,
    PRIMARY KEY (cluster, job_id)
) WITHOUT ROWID;

CREATE TABLE checks (
    cloud TEXT PRIMARY KEY,
    account TEXT,
    ok INTEGER NOT NULL,
    message TEXT NOT NULL,
    hint TEXT,
    places TEXT NOT NULL,
    checked_at TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE refusals (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    place TEXT NOT NULL,
    instance_type TEXT NOT NULL,
    market TEXT NOT NULL,
    error TEXT NOT NULL,
    at TEXT NOT NULL
);
CREATE INDEX refusals_at ON refusals (at);
