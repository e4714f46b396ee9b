-- A CMS that keeps tags in join tables, after the tables of WordPress: terms
-- have taxonomies, of which some are tags, and count the posts that they mark.
CREATE TABLE wp_posts (
	"ID"          bigserial PRIMARY KEY,
	post_title    text NOT NULL DEFAULT '',
	post_content  text NOT NULL DEFAULT '',
	post_name     varchar(200) NOT NULL DEFAULT '',
	post_status   varchar(20) NOT NULL DEFAULT 'draft',
	post_modified timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE wp_terms (
	term_id bigserial PRIMARY KEY,
	name    varchar(200) NOT NULL,
	slug    varchar(200) NOT NULL UNIQUE
);
CREATE TABLE wp_term_taxonomy (
	term_taxonomy_id bigserial PRIMARY KEY,
	term_id          bigint NOT NULL REFERENCES wp_terms,
	taxonomy         varchar(32) NOT NULL,
	count            bigint NOT NULL DEFAULT 0,
	UNIQUE (term_id, taxonomy)
);
CREATE TABLE wp_term_relationships (
	object_id        bigint NOT NULL,
	term_taxonomy_id bigint NOT NULL REFERENCES wp_term_taxonomy,
	term_order       int NOT NULL DEFAULT 0,
	PRIMARY KEY (object_id, term_taxonomy_id)
);
CREATE INDEX ON wp_term_relationships (term_taxonomy_id);

INSERT INTO wp_terms (term_id, name, slug) VALUES (1, 'Technology', 'tech'), (2, 'Sport', 'sport'), (3, 'News', 'news');
INSERT INTO wp_term_taxonomy (term_taxonomy_id, term_id, taxonomy) VALUES (1, 1, 'post_tag'), (2, 2, 'post_tag'), (3, 3, 'category');
