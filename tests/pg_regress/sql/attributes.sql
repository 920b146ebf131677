-- What other tables know of entities and items is part of what a model sees.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS persona CASCADE;
CREATE TABLE orders (customer bigint, at date, product text, amount real);
CREATE TABLE customers (customer bigint PRIMARY KEY, age int, region text, churned boolean);
CREATE TABLE products (id text PRIMARY KEY, price numeric, brand text);
-- Orders say nothing of who leaves: the region does, and the brand of what was ordered last.
INSERT INTO orders
SELECT c, date '2024-01-01' + n * 3, 'p' || (c * 7 + n * n) % 12, n % 5 FROM generate_series(1, 400) c, generate_series(1, 6) n;
INSERT INTO customers
SELECT c, 20 + c % 50, (ARRAY['north', 'south'])[1 + c / 2 % 2], c / 2 % 2 = 0 FROM generate_series(1, 390) c;
INSERT INTO products SELECT 'p' || n, n * 1.5, 'brand ' || n % 3 FROM generate_series(0, 10) n;
ANALYZE orders;

SELECT persona.create_source('orders', 'orders', entity => 'customer', at => 'at',
         fields => '{"product": "category", "amount": "number"}',
         attributes => '[{"table": "customers", "fields": {"age": "number", "region": "category"}},
                         {"table": "products", "key": "id", "on": "product", "fields": {"price": "number", "brand": "category"}}]',
         labels => '{"churned": {"table": "customers"}}');
SELECT place, relation, key, definition -> 'attributes' -> 'on' AS "on" FROM persona.attributes ORDER BY place;
SELECT subject, severity, finding, value FROM persona.check_source('orders')
WHERE subject IN ('age', 'region', 'price', 'brand') AND finding IN ('values', 'nulls') OR finding IN ('attributes', 'examples')
ORDER BY subject, finding, value;

SELECT persona.create_model('leaving', source => 'orders', spec => '{
    "encoder": {"kind": "dnn", "dim": 16, "members": 2, "dropout": 0.1},
    "objective": {"kind": "classify", "label": "churned"},
    "training": {"split": "random", "valid": 0.2, "test": 0.2, "epochs": 30, "patience": 30, "batch_events": 256,
                 "learning_rate": 0.02, "device": "cpu"}}');
CALL persona.train('leaving');
SELECT metric, value > .95 AS good FROM persona.evaluate('leaving') WHERE split = 'test' AND metric = 'churned.auc';
SELECT notes FROM persona.versions WHERE model = 'leaving';
-- Scoring joins them as well.
SELECT persona.create_profile('leavers', model => 'leaving');
CALL persona.refresh('leavers');
SELECT count(*) > 380 AS right FROM leavers p JOIN customers c USING (customer) WHERE p.churned = c.churned;
-- They are what a version was trained on.
ALTER TABLE products RENAME brand TO maker;
CALL persona.refresh('leavers');

-- Mistakes.
SELECT persona.create_source('wrong', 'orders', entity => 'customer', at => 'at', fields => '{"product": "category"}', attributes => '{"table": "customers"}');
SELECT persona.create_source('wrong', 'orders', entity => 'customer', at => 'at', fields => '{"product": "category"}', attributes => '{"table": "products", "on": "product", "fields": {"price": "number"}}');
SELECT persona.create_source('wrong', 'orders', entity => 'customer', at => 'at', fields => '{"product": "category"}', attributes => '{"table": "products", "key": "id", "fields": {"price": "number"}}');
SELECT persona.create_source('wrong', 'orders', entity => 'customer', at => 'at', fields => '{"product": "category"}', attributes => '{"table": "products", "key": "id", "on": "amount", "fields": {"price": "number"}}');
SELECT persona.create_source('wrong', 'orders', entity => 'customer', at => 'at', fields => '{"product": "category"}', attributes => '{"table": "customers", "fields": {"age": "colour"}}');
SELECT persona.create_source('wrong', 'orders', entity => 'customer', at => 'at', fields => '{"product": "category"}',
         attributes => '[{"table": "customers", "fields": {"age": "number"}}, {"table": "customers", "fields": {"age": "number"}}]');
-- Only fields of the events can be predicted.
SELECT persona.create_model('wrong', source => 'orders', spec => '{"objective": {"kind": "next_event", "field": "region"}}');
SELECT persona.drop_profile('leavers'), persona.drop_model('leaving');
SELECT persona.drop_source('orders');
SELECT count(*) FROM persona.attributes;
DROP TABLE orders, customers, products;
