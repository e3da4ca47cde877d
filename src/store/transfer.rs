//! JSON Lines export and import.
