//! `GET /v1/validations/{id}/cep`: the CEP as a file.

use axum::extract::{Path, RawQuery};
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};

use super::api::Call;
use super::errors::Failure;
use super::store::ceps;
use super::validations::find;
use crate::cep::{Cep, rendering};

/// Downloads the CEP of a validation.
///
/// The XML is Banxico's, byte for byte; the PDF is a rendering of it. The CEP was stored when the
/// payment was found, so Banxico is not queried.
#[utoipa::path(
    get, path = "/validations/{id}/cep", operation_id = "downloadCep", tag = "Validations",
    params(("format" = inline(Option<Format>), Query, description = "`xml` by default")),
    responses(
        (status = 200, description = "The file", content((String = "application/xml"), (String = "application/pdf")),
         headers(("Content-Disposition" = String, description = "Contains the file name: `CEP-{id}.xml` or `CEP-{id}.pdf`"))),
        (status = 400, description = "invalid_export_format"),
        (status = 404, description = "cep_not_available"),
    ),
)]
pub(super) async fn download(
    Call { api, user, context }: Call,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
) -> Response {
    let file = async {
        let format = Format::of(query.as_deref().unwrap_or_default())?;
        let (validation, mut reader) = find(&api, &user, &id).await?;
        let xml = ceps::load(reader.connection(), validation.id).await?;
        // Release the connection before rendering.
        drop(reader);
        let xml = xml.ok_or_else(Failure::cep_not_available)?;
        let file = match format {
            Format::Xml => xml,
            // The CEP was parsed before it was stored. If a later version cannot parse it, the XML
            // can still be downloaded.
            Format::Pdf => rendering::pdf(&Cep::parse(xml).map_err(|_| Failure::cep_not_available())?),
        };
        Ok::<_, Failure>((validation.id, format, file))
    };
    match file.await {
        Ok((id, format, file)) => {
            let name = format!("attachment; filename=\"CEP-{id}.{}\"", format.extension());
            ([(CONTENT_TYPE, format.media_type().to_owned()), (CONTENT_DISPOSITION, name)], file)
                .into_response()
        }
        Err(failure) => context.fail(&failure),
    }
}

/// The file formats of a CEP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, utoipa::ToSchema)]
#[schema(rename_all = "lowercase")]
pub(super) enum Format {
    Xml,
    Pdf,
}

impl Format {
    /// Reads the format from a query. The default is XML.
    fn of(query: &str) -> Result<Self, Failure> {
        let asked = platform::query::last_values(query, |name| name == "format").pop();
        match asked.as_ref().map(|(_, format)| &**format) {
            None | Some("xml") => Ok(Self::Xml),
            Some("pdf") => Ok(Self::Pdf),
            Some(_) => Err(Failure::invalid_export_format()),
        }
    }

    fn extension(self) -> &'static str {
        match self {
            Self::Xml => "xml",
            Self::Pdf => "pdf",
        }
    }

    fn media_type(self) -> &'static str {
        match self {
            Self::Xml => "application/xml",
            Self::Pdf => "application/pdf",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_is_xml_unless_the_query_asks_for_pdf() {
        for (query, format) in [
            ("", Some(Format::Xml)),
            ("format=xml", Some(Format::Xml)),
            ("format=pdf", Some(Format::Pdf)),
            ("format=xml&format=pdf", Some(Format::Pdf)),
            ("formato=pdf", Some(Format::Xml)),
            ("format=zip", None),
            ("format=", None),
            ("format", None),
            ("format=XML", None),
        ] {
            assert_eq!(Format::of(query).ok(), format, "{query}");
        }
    }
}
