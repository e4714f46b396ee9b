-- +goose Up
-- Where readers can be reached.
CREATE TABLE newswire_compensate.devices (
    id            bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    reader        text        NOT NULL,
    channel       text        NOT NULL,
    address       text        NOT NULL,              -- endpoint, token or phone number
    keys          jsonb       NOT NULL DEFAULT '{}', -- what belongs to the address
    language      text        NOT NULL DEFAULT '',
    time_zone     text        NOT NULL DEFAULT '',   -- as IANA names it; '' is UTC
    quiet_from    text        NOT NULL DEFAULT '',   -- 22:00 in that zone; '' is never quiet
    quiet_to      text        NOT NULL DEFAULT '',
    registered_at timestamptz NOT NULL DEFAULT now(),
    last_seen     timestamptz NOT NULL DEFAULT now(),
    UNIQUE (channel, address)                        -- a device that changes hands belongs to who registered it last
);
CREATE INDEX devices_reader ON newswire_compensate.devices (reader);
