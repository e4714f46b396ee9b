-- +goose Up
-- What waits for a device, in the order in which it is due: a new delivery asks for
-- the last of the line, however long that is.
CREATE INDEX deliveries_line ON newswire_compensate.deliveries (reader, channel, device, urgent, due)
    WHERE state IN ('waiting', 'taken', 'claimed');
DROP INDEX newswire_compensate.deliveries_open;
