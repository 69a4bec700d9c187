package postgres

// versions are the steps of the schema, in order. The table version says how many of them a
// database has been through. A step that was ever released is never changed; a new one follows it.
//
// All strings are bytea: they compare as bytes, whatever the locale, and may have any byte.
// Revisions, times and sets are as in package sqlite.
var versions = [...]string{`
-- The sequencer: its row is updated, and so locked until the commit, by every transaction with events.
CREATE TABLE log (
	one  boolean PRIMARY KEY DEFAULT true CHECK (one),
	last bigint NOT NULL -- the newest sequence number ever assigned
) WITH (fillfactor = 10);
INSERT INTO log (last) VALUES (0);

-- What Trim has deleted.
CREATE TABLE trimmed (
	one    boolean PRIMARY KEY DEFAULT true CHECK (one),
	hidden bigint NOT NULL, -- all events up to this number are as good as deleted
	newest bigint NOT NULL  -- the newest event that was deleted because of its age
) WITH (fillfactor = 10);
INSERT INTO trimmed (hidden, newest) VALUES (0, 0);

-- The event log of all repositories, partitioned by ranges of sequence numbers.
CREATE TABLE event (
	seq     bigint NOT NULL,
	did     bytea NOT NULL,
	kind    bytea NOT NULL,
	time    bigint NOT NULL, -- milliseconds
	payload bytea NOT NULL,
	PRIMARY KEY (seq) INCLUDE (time)
) PARTITION BY RANGE (seq);
ALTER TABLE event ALTER payload SET STORAGE EXTERNAL;
CREATE INDEX event_did ON event (did, seq);
CREATE INDEX event_time ON event USING brin (time) WITH (pages_per_range = 32, autosummarize = on);

-- The partitions of event, which are named event_first.
CREATE TABLE part (
	first bigint PRIMARY KEY,
	after bigint NOT NULL -- the number after the last one
);

-- Numbers of repositories and of sets of records. A process takes a block of them at a time.
CREATE SEQUENCE number INCREMENT 64;

-- One row per repository. id is never used again.
CREATE TABLE repo (
	id         bigint PRIMARY KEY,
	did        bytea NOT NULL UNIQUE,
	commit_cid bytea NOT NULL,
	data_cid   bytea NOT NULL,
	rev        bytea NOT NULL,
	block      bytea NOT NULL, -- the signed commit
	base       bytea NOT NULL, -- the rev of the records whose rev is empty
	records    bigint NOT NULL -- the set of its records
) WITH (fillfactor = 70);

-- The records, in path order.
CREATE TABLE record (
	set  bigint NOT NULL,
	path bytea NOT NULL,
	cid  bytea NOT NULL,
	rev  bytea NOT NULL, -- of the commit that last wrote the record; empty: repo.base
	data bytea NOT NULL,
	PRIMARY KEY (set, path)
);
CREATE INDEX record_cid ON record (set, cid);

-- Which record refers to which blob.
CREATE TABLE blob_ref (
	set  bigint NOT NULL,
	blob bytea NOT NULL,
	path bytea NOT NULL,
	rev  bytea NOT NULL,
	PRIMARY KEY (set, blob, path)
);
CREATE INDEX blob_ref_path ON blob_ref (set, path);

-- Sets that no repository has: those that Replace is filling, until they expire, and those that are
-- to be deleted, whose expiry is 0. With one, the keys of a repository that was deleted go.
CREATE TABLE loose (
	records bigint PRIMARY KEY,
	repo    bigint NOT NULL, -- that was deleted, or 0
	expires bigint NOT NULL  -- microseconds
);

-- Whose repositories were deleted, with the newest event then. Events up to that are as good as deleted.
CREATE TABLE gone (
	did bytea PRIMARY KEY,
	seq bigint NOT NULL
);

-- Key-value pairs of accounts, and those of the host.
CREATE TABLE account_key (
	repo    bigint NOT NULL,
	key     bytea NOT NULL,
	value   bytea NOT NULL,
	expires bigint, -- microseconds
	PRIMARY KEY (repo, key)
);
CREATE INDEX account_key_expires ON account_key (expires) WHERE expires IS NOT NULL;
CREATE TABLE host_key (
	key     bytea PRIMARY KEY,
	value   bytea NOT NULL,
	expires bigint
);
CREATE INDEX host_key_expires ON host_key (expires) WHERE expires IS NOT NULL;

-- A row for each process and lane. The transactions of a lane lock it first, and leave their number
-- in it: so the process can find out what became of one when the connection broke at its end.
CREATE TABLE ticket (
	node bytea NOT NULL,
	lane bigint NOT NULL,
	last bigint NOT NULL,
	seq  bigint NOT NULL, -- the newest sequence number that the last one has assigned
	seen timestamptz NOT NULL,
	PRIMARY KEY (node, lane)
) WITH (fillfactor = 50);
`, `
-- How many numbers the event takes; seq is the last of them.
ALTER TABLE event ADD COLUMN weight bigint NOT NULL DEFAULT 1;
-- From this version on, the row of an account without a head has empty values for it.
`}

// needs says, for each version of the schema, how many steps a program must know to use it. 0: as
// many as for the version before. A step that the programs of the release before can live with,
// such as a table, an index, or a column with a default, needs no more than they know: it is made
// while they run, and they may still be started. Any other needs its own number, and is made when
// none of them runs.
var needs = [len(versions)]int{1, 2}
