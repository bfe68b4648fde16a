PRAGMA busy_timeout = 10000;
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
CREATE TABLE IF NOT EXISTS events (
    ce_id TEXT PRIMARY KEY, applied_on TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS records (
    entity TEXT, id INTEGER, updated_on TEXT, json TEXT, PRIMARY KEY (entity, id)
) WITHOUT ROWID;
