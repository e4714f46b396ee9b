-- +goose Up
-- Which taking of a delivery is the last: what was said of it behind an earlier one
-- comes too late.
ALTER TABLE newswire_compensate.deliveries ADD COLUMN taking bigint NOT NULL DEFAULT 0;
