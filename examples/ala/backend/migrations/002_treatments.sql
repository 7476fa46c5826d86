CREATE TABLE treatments (
    id         uuid        PRIMARY KEY,
    patient    text        NOT NULL,
    kind       text        NOT NULL CHECK (kind IN ('insertion', 'removal')),
    site       text        NOT NULL DEFAULT '',
    seeds      integer     NOT NULL DEFAULT 0 CHECK (seeds >= 0),
    created_by text        NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX treatments_newest ON treatments (created_at DESC);
