//! Rows as structs.

/// Declares a struct that is read from a row: each field from the column of its name.
///
/// Does what sqlx's `derive(FromRow)` does, without its price: that macro is a program of its own, for which sqlx, both
/// drivers and SQLite would be compiled a second time.
///
/// ```ignore
/// row! {
///     #[derive(Debug)]
///     struct Row {
///         id: String,
///         completed_at: Option<i64>,
///     }
/// }
/// ```
#[macro_export]
macro_rules! row {
    ($(#[$attribute:meta])* $visibility:vis struct $name:ident {
        $($(#[$field_attribute:meta])* $field_visibility:vis $field:ident: $type:ty,)+
    }) => {
        $(#[$attribute])*
        $visibility struct $name {
            $($(#[$field_attribute])* $field_visibility $field: $type,)+
        }

        impl<'r, R: ::sqlx::Row> ::sqlx::FromRow<'r, R> for $name
        where
            &'static str: ::sqlx::ColumnIndex<R>,
            $($type: ::sqlx::Decode<'r, R::Database> + ::sqlx::Type<R::Database>,)+
        {
            fn from_row(row: &'r R) -> ::sqlx::Result<Self> {
                Ok(Self { $($field: row.try_get(stringify!($field))?,)+ })
            }
        }
    };
}
pub use row;
