-- +goose Up
-- Each record of the topic, once. It stays for the retention, so that a repeat is known.
CREATE TABLE newswire_compensate.records (
    ce_id       text        PRIMARY KEY,
    seq         bigint      GENERATED ALWAYS AS IDENTITY, -- order of arrival, which is each reader's
    reader      text        NOT NULL,
    article     text        NOT NULL, -- source and key: the same for a publish and its corrects
    action      text        NOT NULL,
    value       bytea,                -- as it stood in Kafka; NULL once nobody needs it
    expires_at  timestamptz NOT NULL, -- stale from then on
    received_at timestamptz NOT NULL DEFAULT now(),
    step        smallint    NOT NULL DEFAULT 0, -- of its route: how many have been tried
    outcome     text,                 -- NULL while at work
    settled_at  timestamptz
);
CREATE INDEX records_next ON newswire_compensate.records (seq) WHERE outcome = 'next';
CREATE INDEX records_settled ON newswire_compensate.records (settled_at) WHERE outcome IS NOT NULL;

-- A receipt for each record, channel and device: the claim before sending, the outcome after it.
CREATE TABLE newswire_compensate.deliveries (
    ce_id       text        NOT NULL REFERENCES newswire_compensate.records ON DELETE CASCADE,
    channel     text        NOT NULL,
    device      bigint      NOT NULL, -- 0 for a channel without devices
    seq         bigint      NOT NULL,
    reader      text        NOT NULL,
    article     text        NOT NULL,
    urgent      boolean     NOT NULL,
    state       text        NOT NULL, -- waiting, taken, claimed, or the outcome
    reason      text        NOT NULL DEFAULT '',
    detail      text        NOT NULL DEFAULT '',
    provider_id text        NOT NULL DEFAULT '',
    attempts    integer     NOT NULL DEFAULT 0,
    due         timestamptz NOT NULL DEFAULT now(),
    expires_at  timestamptz NOT NULL,
    owner       uuid,                 -- the instance that has taken it
    bundle      text,                 -- ce_id under which it was claimed: its own, or that of its digest
    claimed_at  timestamptz,
    settled_at  timestamptz,
    told_at     timestamptz,          -- when its dead letter was written
    PRIMARY KEY (ce_id, channel, device)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);
CREATE INDEX deliveries_waiting ON newswire_compensate.deliveries (channel, due, seq) WHERE state = 'waiting';
CREATE INDEX deliveries_open ON newswire_compensate.deliveries (reader, channel, device) WHERE state IN ('waiting', 'taken', 'claimed');
CREATE INDEX deliveries_busy ON newswire_compensate.deliveries (channel, reader) WHERE state IN ('taken', 'claimed');
CREATE INDEX deliveries_stale ON newswire_compensate.deliveries (expires_at) WHERE state = 'waiting';
CREATE INDEX deliveries_owner ON newswire_compensate.deliveries (owner) WHERE state IN ('taken', 'claimed');
CREATE INDEX deliveries_sent ON newswire_compensate.deliveries (reader, channel, settled_at) WHERE state IN ('sent', 'doubtful');
CREATE INDEX deliveries_dead ON newswire_compensate.deliveries (seq) WHERE state = 'permanent' AND told_at IS NULL;
CREATE INDEX deliveries_doubtful ON newswire_compensate.deliveries (settled_at) WHERE state = 'doubtful';

-- What is not to be sent any more; the notice may come before the record.
CREATE TABLE newswire_compensate.cancelled (
    ce_id text        PRIMARY KEY,
    cause text        NOT NULL,
    at    timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX cancelled_at ON newswire_compensate.cancelled (at);

-- Readers who wanted to be forgotten: what was handed over before is not told them.
CREATE TABLE newswire_compensate.forgotten (
    reader text        PRIMARY KEY,
    at     timestamptz NOT NULL DEFAULT now()
);

-- Who is at work. What an instance had taken is recovered when it is not seen any more.
CREATE TABLE newswire_compensate.instances (
    id      uuid        PRIMARY KEY,
    name    text        NOT NULL,
    seen_at timestamptz NOT NULL DEFAULT now()
);
