//! A CEP as a printable PDF.

use pdf_writer::types::TextRenderingMode;
use pdf_writer::{Content, Finish, Name, Pdf, Rect, Ref, Str, TextStr};

use super::document::{Cep, Side};

/// Renders a CEP as a PDF. The same CEP always gives the same bytes. The text states that this is a
/// rendering, and that only the XML is authoritative.
pub(crate) fn pdf(cep: &Cep) -> Vec<u8> {
    let mut sheets = Sheets::default();
    sheets.line(LABEL, 15.0, LEFT, "Comprobante Electrónico de Pago (CEP)");
    sheets.gap();
    sheets.text("Representación impresa del XML del CEP, hecha por este servidor. No es el documento de");
    sheets.text("Banxico ni del banco: lo que cuenta es el XML y su sello.");
    sheets.text("A rendering of the CEP's XML by this server, not a document of the bank's or of Banxico's.");

    sheets.heading("Pago");
    sheets.field("Fecha de operación", &cep.fecha_operacion);
    sheets.field("Hora", &cep.hora);
    sheets.field("Clave de rastreo", &cep.clave_rastreo);
    sheets.field("Clave SPEI", &cep.clave_spei);
    sheets.field("Concepto", &cep.concepto);
    sheets.field("Monto (MXN)", &format!("{:.2}", cep.monto.pesos()));
    sheets.field("IVA (MXN)", &cep.iva.map_or_else(String::new, |iva| format!("{iva:.2}")));
    sheets.side("Ordenante", "Banco emisor", &cep.ordenante);
    sheets.side("Beneficiario", "Banco receptor", &cep.beneficiario);
    sheets.heading("Sello");
    sheets.field("Número de certificado", &cep.numero_certificado);
    sheets.block("Sello digital", &cep.sello);
    sheets.block("Cadena original del CDA", &cep.cadena_cda);
    sheets.finish(&cep.clave_rastreo)
}

/// A4, in points.
const PAPER: Rect = Rect { x1: 0.0, y1: 0.0, x2: 595.0, y2: 842.0 };
const LEFT: f32 = 50.0;
const VALUES: f32 = 180.0;
const RIGHT: f32 = 545.0;
const TOP: f32 = 790.0;
const BOTTOM: f32 = 50.0;
const SIZE: f32 = 9.0;
/// The width of a character of the value font, in units of its size. The font is monospaced, so
/// lines can be broken without a table of widths.
const ADVANCE: f32 = 0.6;

const LABEL: Name<'_> = Name(b"L");
const VALUE: Name<'_> = Name(b"V");

/// Pages under construction, from top to bottom.
#[derive(Default)]
struct Sheets {
    pages: Vec<Content>,
    /// The baseline of the next line on the last page.
    y: f32,
}

impl Sheets {
    fn heading(&mut self, text: &str) {
        self.gap();
        self.line(LABEL, 11.0, LEFT, text);
    }

    fn side(&mut self, heading: &str, bank: &str, side: &Side) {
        self.heading(heading);
        self.field(bank, &side.banco);
        self.field("Nombre", &side.nombre);
        self.field("Tipo de cuenta", &side.tipo_cuenta);
        self.field("Cuenta", &side.cuenta);
        self.field("RFC / CURP", &side.rfc);
    }

    /// Writes a label with its value beside it.
    fn field(&mut self, label: &str, value: &str) {
        self.line(LABEL, SIZE, LEFT, label);
        let mut lines = wrapped(value, RIGHT - VALUES);
        // The first line goes on the line of the label.
        self.write(VALUE, SIZE, VALUES, &lines.next().unwrap_or_default());
        for line in lines {
            self.line(VALUE, SIZE, VALUES, &line);
        }
    }

    /// Writes a label with its value below it, character by character: the spaces of a sealed
    /// string are part of what was sealed.
    fn block(&mut self, label: &str, value: &str) {
        self.line(LABEL, SIZE, LEFT, label);
        let characters: Vec<char> = value.chars().collect();
        for line in characters.chunks(columns(RIGHT - LEFT)) {
            self.line(VALUE, SIZE, LEFT, &String::from_iter(line));
        }
    }

    fn text(&mut self, text: &str) {
        self.line(VALUE, SIZE, LEFT, text);
    }

    fn gap(&mut self) {
        self.y -= SIZE;
    }

    fn line(&mut self, font: Name<'_>, size: f32, x: f32, text: &str) {
        self.y -= size * 1.4;
        if self.pages.is_empty() || self.y < BOTTOM {
            self.pages.push(Content::new());
            self.y = TOP;
        }
        self.write(font, size, x, text);
    }

    fn write(&mut self, font: Name<'_>, size: f32, x: f32, text: &str) {
        let Some(page) = self.pages.last_mut().filter(|_| !text.is_empty()) else { return };
        page.begin_text();
        page.set_text_rendering_mode(TextRenderingMode::Fill);
        page.set_font(font, size);
        page.next_line(x, self.y);
        page.show(Str(&win_ansi(text)));
        page.end_text();
    }

    fn finish(self, title: &str) -> Vec<u8> {
        let mut numbers = (1..).map(Ref::new);
        let mut number = || numbers.next().expect("numbers do not end");
        let (catalog, tree, label, value, info) = (number(), number(), number(), number(), number());
        let pages: Vec<(Ref, Ref)> = self.pages.iter().map(|_| (number(), number())).collect();

        let mut pdf = Pdf::new();
        pdf.catalog(catalog).pages(tree).lang(TextStr("es-MX"));
        pdf.document_info(info).title(TextStr(&format!("CEP {title}"))).producer(TextStr("example-server"));
        let count = i32::try_from(pages.len()).unwrap_or(i32::MAX);
        pdf.pages(tree).kids(pages.iter().map(|(page, _)| *page)).count(count);
        for (font, name) in [(label, "Helvetica-Bold"), (value, "Courier")] {
            let name = Name(name.as_bytes());
            pdf.type1_font(font).base_font(name).encoding_predefined(Name(b"WinAnsiEncoding"));
        }
        for ((page, content), written) in pages.iter().zip(self.pages) {
            let mut page = pdf.page(*page);
            page.media_box(PAPER).parent(tree).contents(*content);
            page.resources().fonts().pair(LABEL, label).pair(VALUE, value);
            page.finish();
            pdf.stream(*content, &written.finish());
        }
        pdf.finish()
    }
}

/// Returns the number of characters of a value that fit in this width.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "widths of paper are small")]
fn columns(width: f32) -> usize {
    (width / (SIZE * ADVANCE)) as usize
}

/// Breaks the text into lines of at most this width: between words, or within a word that is too
/// long.
fn wrapped(text: &str, width: f32) -> impl Iterator<Item = String> {
    let columns = columns(width);
    let mut rest: Vec<char> = text.trim().chars().collect();
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = rest.len().min(columns);
        let between_words = (end < rest.len()).then(|| rest[..=end].iter().rposition(|c| *c == ' '));
        let end = between_words.flatten().filter(|at| *at > 0).unwrap_or(end);
        let line = rest.drain(..end).collect();
        let spaces = rest.iter().take_while(|c| **c == ' ').count();
        rest.drain(..spaces);
        Some(line)
    })
}

/// Encodes the text in the fonts' character set, Windows-1252, which covers all of Spanish.
fn win_ansi(text: &str) -> Vec<u8> {
    text.chars()
        .map(|c| match u32::from(c) {
            code @ (0x20..=0x7E | 0xA0..=0xFF) => u8::try_from(code).unwrap_or(b'?'),
            0x20AC => 0x80,
            0x2018 => 0x91,
            0x2019 => 0x92,
            0x201C => 0x93,
            0x201D => 0x94,
            0x2013 => 0x96,
            0x2014 => 0x97,
            0x09..=0x0D => b' ',
            _ => b'?',
        })
        .collect()
}

#[cfg(test)]
mod tests;
