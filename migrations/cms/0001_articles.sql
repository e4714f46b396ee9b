-- +goose Up
-- The demo's CMS: one table, and the role that its editors write with.

-- A demo directory of an earlier version has the table already.
CREATE TABLE IF NOT EXISTS public.articles (
    id           bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    title        text        NOT NULL,
    summary      text,
    url          text,
    tags         text[]      NOT NULL DEFAULT '{}',
    status       text        NOT NULL DEFAULT 'published',
    published_at timestamptz NOT NULL DEFAULT now()
);

-- Roles belong to the whole cluster: another database may have made this one,
-- or be making it at this moment.
-- +goose StatementBegin
DO $$
BEGIN
    CREATE ROLE editor LOGIN;
EXCEPTION
    WHEN duplicate_object OR unique_violation THEN NULL;
END
$$;
-- +goose StatementEnd

GRANT SELECT, INSERT, UPDATE, DELETE ON public.articles TO editor;
