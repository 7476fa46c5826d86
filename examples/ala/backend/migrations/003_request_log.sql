-- The audit trail of writes: one row for every time a request to create a treatment was carried
-- out, also when it was refused as a duplicate. Deliberately without a unique constraint.
CREATE TABLE request_log (
    seq          bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    treatment_id uuid        NOT NULL,
    request_id   text        NOT NULL,
    instance     text        NOT NULL,
    received_at  timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX request_log_treatment ON request_log (treatment_id);
