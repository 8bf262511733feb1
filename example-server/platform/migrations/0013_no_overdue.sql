-- Nothing looks for validations and deliveries whose cycle ended without them any more: the transaction that ends it writes
-- them.
DROP INDEX validations_overdue;
DROP INDEX webhook_deliveries_open;
