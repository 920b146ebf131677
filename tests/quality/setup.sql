-- What the parts of `make quality` share.
CREATE EXTENSION persona CASCADE;

-- The mean of a test figure over the models whose names are like a pattern; an error where it is less than it must be.
CREATE FUNCTION must_reach(models text, metric text, bound real) RETURNS text
LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE
    mean real := (SELECT avg(m.value) FROM persona.metrics m WHERE m.model LIKE models AND m.split = 'test' AND m.epoch IS NULL
                  AND m.metric = must_reach.metric);
BEGIN
    IF mean IS NULL OR mean < bound THEN
        RAISE EXCEPTION '% of % is %, not %', metric, models, mean, bound;
    END IF;
    RETURN format('%s of %s: %s, at least %s', metric, models, round(mean::numeric, 4), bound);
END $$;
