PRAGMA busy_timeout = 10000;
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
CREATE TABLE IF NOT EXISTS events (
    ce_id TEXT PRIMARY KEY, applied_on TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS records (
    entity TEXT, id INTEGER, updated_on TEXT, json TEXT, PRIMARY KEY (entity, id)
) WITHOUT ROWID;

-- An INSERT into this table applies a change in one transaction. It inserts no row for a duplicate, and no row stays.
CREATE TABLE IF NOT EXISTS changes (
    ce_id TEXT NOT NULL, entity TEXT NOT NULL, id INTEGER NOT NULL, ce_time TEXT, json TEXT
);
CREATE TRIGGER IF NOT EXISTS drop_duplicate BEFORE INSERT ON changes
WHEN EXISTS (SELECT 1 FROM events WHERE ce_id = NEW.ce_id)
BEGIN
    SELECT RAISE(IGNORE);
END;
CREATE TRIGGER IF NOT EXISTS apply_change AFTER INSERT ON changes
BEGIN
    INSERT INTO events (ce_id) VALUES (NEW.ce_id);
    -- With nine digits of a second, text order is time order. A row without json is a tombstone, which stays.
    INSERT INTO records (entity, id, updated_on, json)
    VALUES (NEW.entity, NEW.id, substr(NEW.ce_time, 1, 19) || '.'
        || substr(rtrim(substr(NEW.ce_time, 21), 'Z') || '000000000', 1, 9) || 'Z', NEW.json)
    ON CONFLICT (entity, id) DO UPDATE SET updated_on = excluded.updated_on, json = excluded.json
    WHERE records.json IS NOT NULL AND (excluded.json IS NULL OR excluded.updated_on >= records.updated_on);
    DELETE FROM changes;
END;
