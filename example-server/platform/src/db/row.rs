//! A macro for structs that are read from rows.

/// Declares a struct and implements [`sqlx::FromRow`] for it. Each field is read from the column of
/// the same name.
///
/// It replaces `#[derive(sqlx::FromRow)]`. The derive macro is a program that runs in the compiler,
/// so sqlx, both drivers and SQLite would be compiled a second time for it.
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
