-- Keys after the rows: building an index once is quicker than growing it.
ALTER TABLE transactions ADD PRIMARY KEY (basket_id, product_id);
ALTER TABLE products ADD PRIMARY KEY (product_id);
ALTER TABLE demographics ADD PRIMARY KEY (household_id);
CREATE INDEX ON transactions (household_id);
ANALYZE transactions, products, demographics;
