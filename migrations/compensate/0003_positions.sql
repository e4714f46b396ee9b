-- +goose Up
-- How far each partition of the topic of cancellations has been read: all of it
-- before that stands in cancelled.
CREATE TABLE newswire_compensate.positions (
    topic     text    NOT NULL,
    partition integer NOT NULL,
    next      bigint  NOT NULL,
    PRIMARY KEY (topic, partition)
);

-- Where a record lay in Kafka, and with which headers: its dead letter tells.
ALTER TABLE newswire_compensate.records
    ADD COLUMN partition integer,
    ADD COLUMN position  bigint,
    ADD COLUMN headers   bytea; -- JSON; NULL once nobody needs it

-- When a channel with a rate may make its next call, whichever instance makes it.
CREATE TABLE newswire_compensate.paces (
    channel text        PRIMARY KEY,
    next    timestamptz NOT NULL
);
