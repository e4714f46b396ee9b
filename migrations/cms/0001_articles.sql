-- The demo's CMS: one table, and the role that its editors write with.

CREATE TABLE public.articles (
    id           bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    title        text        NOT NULL,
    summary      text,
    url          text,
    tags         text[]      NOT NULL DEFAULT '{}',
    status       text        NOT NULL DEFAULT 'published',
    published_at timestamptz NOT NULL DEFAULT now()
);

-- Roles belong to the whole cluster, so another database may have made this one.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'editor') THEN
        CREATE ROLE editor LOGIN;
    END IF;
END
$$;

GRANT SELECT, INSERT, UPDATE, DELETE ON public.articles TO editor;
